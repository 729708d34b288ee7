"""Files beside those of the code: `figure-1.png`, `table-1.csv`, with the first number that is free."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


class Series:
    """Files of one kind in a folder; none that exists is ever written to."""

    def __init__(self, folder: Path, stem: str, suffix: str) -> None:
        self._folder = folder
        self._name = f"{stem}-{{}}{suffix}"
        self._next = 1

    def save(self, write: Callable[[BinaryIO], object]) -> str:
        """Write the next one; gives its name.

        Raises:
            OSError: It cannot be written; nothing is left of it.
        """
        for number in itertools.count(self._next):
            path = self._folder / self._name.format(number)
            try:
                file = path.open("xb")
            except FileExistsError:
                continue
            self._next = number + 1
            break
        try:
            with file:
                write(file)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path.name
