"""Runs the entry point as a program: `python -I -S PATH/trainyard/sandbox/inside/pod`.

Started by its path it finds the package by itself; nothing of that is left on `sys.path`, which user code inherits.
"""

import sys
from pathlib import Path

_ROOT = str(Path(__file__).resolve().parents[4])
_HERE = str(Path(__file__).resolve().parent)

sys.path[:] = [_ROOT, *(path for path in sys.path if path != _HERE)]
from trainyard.sandbox.inside.pod import entry  # noqa: E402 found only through the line above

sys.path.remove(_ROOT)
entry.main()
