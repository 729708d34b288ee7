"""Load tests of language-model servers; what is here is the server that they are practised on.

`mock` is one server that speaks OpenAI's and Ollama's wire, with a latency model, deterministic text and faults on
demand. It runs no model and keeps no secret: its answers are made of a fixed list of words.
"""
