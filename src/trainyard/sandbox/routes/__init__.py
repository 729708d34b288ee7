"""The wire of the sandbox: the code interpreter dialect of LibreChat and what goes beyond it."""
