"""Wire and domain types of the sandbox; no I/O."""
