"""Serving: text generation by catalog models and by trained runs, in two dialects.

In: a prompt, token ids or chat messages, with sampling parameters (lengths in tokens), and who asks. Out: text with
usage counts, whole or streamed, let in by the caller's limits and written into the ledger before its last byte. Answers
are kept for those who ask the same again (`cache/`), and equal requests at the same moment are worked on once. It does
not load weights, which is the engine's work, keeps no conversations, and sets no limits: it asks the `Meter`.
"""
