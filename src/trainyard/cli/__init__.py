"""The command line: one file per group, talking to a server through the SDK.

In: arguments, TRAINYARD_URL, TRAINYARD_API_KEY. Out: lines on standard output (JSON with --json), one clear line per
error on standard error, exit codes from the error table. Only up, demo, doctor, db, keys and config work without a
server.
"""

from trainyard.cli.edge import main

__all__ = ["main"]
