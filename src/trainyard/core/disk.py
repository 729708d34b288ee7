"""What it takes for files to survive the loss of power."""

import os
from pathlib import Path


def sync_directory(directory: Path) -> None:
    """Flush the names in a directory, so that what was made or renamed there is found again."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
