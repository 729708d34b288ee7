"""Usage: append-only entries, durable before an answer is out."""
