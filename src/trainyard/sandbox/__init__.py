"""Isolated code execution with files and session state.

In: code in one of 13 languages, files, the name of a session. Out: what it printed, how it ended, which files it made,
the values it left. What it does NOT do: reach a network, install packages, keep processes beyond a run, or protect
against faults of the kernel it shares with the host; `docs/sandbox.md` has the whole list.
"""
