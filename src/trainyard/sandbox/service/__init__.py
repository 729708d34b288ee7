"""The use cases of the sandbox; no HTTP words, no SQL."""
