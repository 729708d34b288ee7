"""Files that survive the loss of power, and disks that have no room for them."""

import errno
import os
from pathlib import Path

from trainyard.core import errors

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def full(error: BaseException) -> errors.Unavailable | None:
    """Make the error for a caller whose request found no room on the disk; None when something else went wrong."""
    if not isinstance(error, OSError) or error.errno not in _FULL:
        return None
    made = errors.Unavailable(
        "The disk of the server is full; nothing was written. An operator has to make room",
        code="disk_full",
        retry_after_s=30,
    )
    made.__cause__ = error
    return made


def sync_directory(directory: Path) -> None:
    """Flush the names in a directory, so that what was made or renamed there is found again."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
