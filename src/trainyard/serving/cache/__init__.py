"""Answers that were computed before, by what they are the answer to.

In: a request and the model that would answer it. Out: its finished choices, whatever dialect they were asked in first.
It keeps answers of deterministic requests (and others when asked), for a time and within bytes, each for its tenant
alone. It does not keep streams half-way, errors, or anything of a request that says `no-store`.
"""
