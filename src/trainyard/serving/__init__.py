"""Serving: text generation by catalog models and by trained runs, in two dialects.

In: a prompt, token ids or chat messages, with sampling parameters (lengths in tokens). Out: text with usage counts,
whole or streamed. It keeps nothing: no cache (`cached` is always false), no limits, no stored conversations; it does
not load weights, which is the engine's work.
"""
