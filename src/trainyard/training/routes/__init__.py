"""Training over HTTP; `signal` is the dialect that exists."""
