"""Standard input and outputs of the interpreter, new for every run.

System calls are those of `posix`, not of `os`, where user code may have put others.
"""

import contextlib
import os
import posix
import sys
from collections.abc import Sequence
from io import BufferedReader, BufferedWriter, FileIO, TextIOWrapper
from typing import TextIO

_NULL_DEVICE = os.makedev(1, 3)


class Streams:
    """Puts the descriptors of a run at 0, 1 and 2, and fresh text streams over them into `sys`."""

    def __init__(self) -> None:
        self._nowhere = posix.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)

    def open(self, descriptors: Sequence[int]) -> None:
        """Begin a run: what earlier code has closed or replaced is whole again."""
        for target, descriptor in enumerate(descriptors):
            posix.dup2(descriptor, target, inheritable=True)
            posix.close(descriptor)
        _install("stdin", _text(0, "r", "surrogateescape"))
        _install("stdout", _text(1, "w", "surrogateescape"))
        _install("stderr", _text(2, "w", "backslashreplace"))

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


def _install(name: str, stream: TextIO) -> None:
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)


def _text(descriptor: int, mode: str, errors: str) -> TextIOWrapper:
    """Open a text stream that leaves its descriptor open, and writes every line at once, so that none is lost."""
    raw = FileIO(descriptor, mode, closefd=False)
    if mode == "r":
        return TextIOWrapper(BufferedReader(raw), "utf-8", errors)
    return TextIOWrapper(BufferedWriter(raw), "utf-8", errors, line_buffering=True)


def _is_device(descriptor: int) -> bool:
    try:
        return posix.fstat(descriptor).st_rdev == _NULL_DEVICE
    except OSError:
        return False
