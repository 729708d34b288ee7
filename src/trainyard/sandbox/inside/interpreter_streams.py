"""Standard input and outputs of the interpreter, new for every run.

System calls are those of `posix`, not of `os`, where user code may have put others.
"""

import contextlib
import os
import posix
import sys
from collections.abc import Sequence
from io import BufferedReader, BufferedWriter, FileIO, TextIOWrapper
from typing import Final

_NAMES: Final = ("stdin", "stdout", "stderr")
_NULL_DEVICE = os.makedev(1, 3)


class _Output(FileIO):
    """A pipe, also while its descriptor leads nowhere yet, where one could seek."""

    def seekable(self) -> bool:
        """Whether one can."""
        return False


class Streams:
    """Puts the descriptors of a run at 0, 1 and 2, and fresh text streams over them into `sys`."""

    def __init__(self) -> None:
        self._nowhere = posix.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._ready: list[TextIOWrapper] = []
        self.close()
        self.prepare()

    def prepare(self) -> None:
        """Make the text streams of the next run ahead of it; where code has broken what that takes, it tries itself."""
        with contextlib.suppress(BaseException):
            self._ready = _texts()

    def open(self, descriptors: Sequence[int]) -> None:
        """Begin a run: what earlier code has closed or replaced is whole again."""
        for target, descriptor in enumerate(descriptors):
            posix.dup2(descriptor, target, inheritable=True)
            posix.close(descriptor)
        ready, self._ready = self._ready or _texts(), []
        for name, stream in zip(_NAMES, ready, strict=True):
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)

    def flush(self) -> None:
        """Write out what user code has left in the streams; its own stand-ins may refuse in any way they like."""
        for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            with contextlib.suppress(BaseException):
                if stream is not None:
                    stream.flush()

    def close(self) -> None:
        """End a run: nothing that is printed until the next one goes anywhere."""
        self.flush()
        if not _is_device(self._nowhere):
            self._nowhere = posix.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for target in range(3):
            posix.dup2(self._nowhere, target, inheritable=True)


def _texts() -> list[TextIOWrapper]:
    """Open text streams that leave their descriptors open, and write every line at once, so that none is lost."""
    outputs = [BufferedWriter(_Output(descriptor, "w", closefd=False)) for descriptor in (1, 2)]
    return [
        TextIOWrapper(BufferedReader(FileIO(0, "r", closefd=False)), "utf-8", "surrogateescape"),
        TextIOWrapper(outputs[0], "utf-8", "surrogateescape", line_buffering=True),
        TextIOWrapper(outputs[1], "utf-8", "backslashreplace", line_buffering=True),
    ]


def _is_device(descriptor: int) -> bool:
    try:
        return posix.fstat(descriptor).st_rdev == _NULL_DEVICE
    except OSError:
        return False
