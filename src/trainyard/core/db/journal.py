"""How much of SQLite's journal (the write-ahead log) is in use; its file keeps its size when it begins anew.

What lies where stands in https://www.sqlite.org/fileformat2.html#the_write_ahead_log: a header, then frames of a page
each. Header and frames carry a salt that is another one after every beginning, so that a frame with the salt of the
header is of now, and one with another salt is a remainder.
"""

import os
from pathlib import Path
from typing import Final

LONG_BYTES: Final = 8 << 20
"""A longer journal is moved into the file; twice SQLite's own measure, for a page that changes often is moved once."""

_CUT_BYTES: Final = 2 * LONG_BYTES

_HEADER_BYTES: Final = 32
_FRAME_HEADER_BYTES: Final = 24
_SALT_BYTES: Final = 8
_SALT_AT: Final = 16
_FRAME_SALT_AT: Final = 8
_PAGE_SIZE: Final = slice(8, 12)


def is_full(path: Path) -> bool:
    """Tell whether what is in use of a journal reaches `LONG_BYTES`; not where it cannot be read, or is not there."""
    try:
        return _is_in_use(path, LONG_BYTES)
    except OSError:
        return False


def is_too_long(path: Path) -> bool:
    """Tell whether the file has become so long that it should be cut."""
    try:
        return path.stat().st_size > _CUT_BYTES
    except OSError:
        return False


def _is_in_use(path: Path, at_bytes: int) -> bool:
    """Tell whether the frame at a place of the file is of now."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        header = os.pread(descriptor, _HEADER_BYTES, 0)
        frame_bytes = _FRAME_HEADER_BYTES + int.from_bytes(header[_PAGE_SIZE], "big")
        at = _HEADER_BYTES + at_bytes // frame_bytes * frame_bytes
        salt = os.pread(descriptor, _SALT_BYTES, at + _FRAME_SALT_AT)
    finally:
        os.close(descriptor)
    return len(salt) == _SALT_BYTES and salt == header[_SALT_AT : _SALT_AT + _SALT_BYTES]
