"""The runner's own files: the whole output of the last run, and the state on its way in or out."""

import contextlib
import itertools
import os
from typing import BinaryIO

STATE = "state"
_NEW_STATE = "state.new"
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Spool:
    """A directory of the runner, known by its descriptor: no path need lead there.

    Outputs lie in files without a name, so that code which gets at the directory can neither read nor change them.
    """

    def __init__(self, directory: int) -> None:
        self.directory = directory
        self._numbers = itertools.count()

    def unnamed(self) -> BinaryIO:
        """Open a file that is gone when it is closed."""
        name = f".{next(self._numbers)}"
        descriptor = os.open(name, _NEW, 0o600, dir_fd=self.directory)
        os.unlink(name, dir_fd=self.directory)
        return os.fdopen(descriptor, "r+b", buffering=0)

    def holding(self, content: bytes) -> int:
        """Open a file without a name that holds this, at its beginning; the caller closes the descriptor."""
        if not content:
            return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        with self.unnamed() as file:
            write_all(file.fileno(), content)
            file.seek(0)
            return os.dup(file.fileno())

    def begin_state(self) -> int:
        """Open a file for a new state, which takes its name by `end_state`; the caller closes the descriptor.

        The last state is removed first: the server has fetched it or never will, and both together are memory.
        """
        self.end_state(is_whole=False)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(STATE, dir_fd=self.directory)
        return os.open(_NEW_STATE, _NEW, 0o600, dir_fd=self.directory)

    def end_state(self, *, is_whole: bool) -> None:
        """Give what `begin_state` has begun its name, or remove it."""
        with contextlib.suppress(FileNotFoundError):
            if is_whole:
                os.rename(_NEW_STATE, STATE, src_dir_fd=self.directory, dst_dir_fd=self.directory)
            else:
                os.unlink(_NEW_STATE, dir_fd=self.directory)

    def state_bytes(self) -> int:
        """Tell what the state takes; 0 when there is none."""
        with contextlib.suppress(FileNotFoundError):
            return os.stat(STATE, dir_fd=self.directory, follow_symlinks=False).st_size
        return 0

    def open_state(self) -> int:
        """Open the state for reading; the caller closes the descriptor."""
        return os.open(STATE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.directory)


def write_all(descriptor: int, content: bytes | memoryview) -> None:
    """Write all of it, in as many calls as that takes."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def open_directory(path: str) -> int:
    """Open a directory that the isolating side has named; the caller closes the descriptor."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
