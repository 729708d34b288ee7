"""Log files of children: private, appended to, and kept small while their writers run."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

import structlog

LOG_BYTES: Final = 10 * 1024 * 1024
"""A log that is over this becomes `NAME.1`; with that one, a child keeps about twice as much."""

CHECK_S: Final = 10.0
"""How often a log is measured; a child that writes 1 MB/s overshoots by 10 MB."""

_log = structlog.get_logger(__name__)


@contextlib.contextmanager
def appended(path: Path | None) -> Iterator[IO[bytes] | None]:
    """Open a log for appending, readable by the owner only; None stays None."""
    if path is None:
        yield None
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    bound(path)
    with open(path, "ab", opener=_private) as file:
        yield file


def bound(path: Path, log_bytes: int = LOG_BYTES) -> None:
    """Move a log that is too large to `NAME.1` by copying and emptying it.

    Writers keep their descriptor, since it appends: they go on at the new end. A line that is written between the
    copy and the emptying is lost.
    """
    if not path.exists() or path.stat().st_size <= log_bytes:
        return
    with path.open("rb") as source, open(_older(path), "wb", opener=_private) as target:
        shutil.copyfileobj(source, target)
    os.truncate(path, 0)


async def keep_bounded(path: Path | None, log_bytes: int = LOG_BYTES, check_s: float = CHECK_S) -> None:
    """Bound a log again and again, until cancelled; a disk that refuses is tried again."""
    while path is not None:
        await asyncio.sleep(check_s)
        try:
            await asyncio.to_thread(bound, path, log_bytes)
        except OSError as error:
            _log.warning("log_not_bounded", path=path.name, reason=str(error))


def _older(path: Path) -> Path:
    return path.with_name(path.name + ".1")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
