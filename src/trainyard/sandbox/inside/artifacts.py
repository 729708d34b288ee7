"""What a compiler has made, on its way between the directory of a run and the spool, where no code reaches it."""

import contextlib
import os
import stat

from trainyard.sandbox.inside.spool import write_all

NAME = "artifact"
MAX_BYTES = 64 << 20
"""More is compiled again each time."""

_PIECE_BYTES = 1 << 20
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def forget(spool: int) -> None:
    """Remove what an earlier run has left."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(NAME, dir_fd=spool)


def keep(path: str, spool: int) -> None:
    """Copy what was compiled into the spool; a file that is too large or finds no room there is not kept."""
    try:
        _copy(os.open(path, _READ), os.open(NAME, _NEW, 0o600, dir_fd=spool))
    except OSError:
        forget(spool)


def take(spool: int, path: str) -> None:
    """Move what was compiled before out of the spool; raises OSError where it is not there."""
    _copy(os.open(NAME, _READ, dir_fd=spool), os.open(path, _NEW, 0o755))
    forget(spool)


def _copy(reading: int, writing: int) -> None:
    with os.fdopen(reading, "rb", buffering=0) as source, os.fdopen(writing, "wb", buffering=0) as target:
        about = os.fstat(source.fileno())
        if not stat.S_ISREG(about.st_mode) or about.st_size > MAX_BYTES:
            raise OSError(f"no file of at most {MAX_BYTES} bytes")
        while piece := source.read(_PIECE_BYTES):
            write_all(target.fileno(), piece)
