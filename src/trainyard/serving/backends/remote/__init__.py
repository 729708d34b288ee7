"""Models on servers elsewhere: one pool of connections, and what keeps a failing server from hanging a caller.

`upstream` sends requests with retries, timeouts and a circuit breaker; `prompt` turns its answers into pieces through
a `wire`, which `backends/openai.py` and `backends/ollama.py` bring. `chain` asks the next model when one fails.

Nothing here logs a key, a prompt or an address, and no message of an error holds one.
"""
