"""Files by relative path, where every folder on the way is opened by itself and no link is ever followed.

User code may have replaced any folder by a link that leads out; opening each component beneath the one before, with
O_NOFOLLOW, finds that out at the moment of use.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from trainyard.sandbox.inside.spool import write_all

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_PART_BYTES = 255
_DEEPEST = 5000
"""Folders that are entered: Landlock looks at all those above for each that is opened."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Refused(Exception):
    """An order that cannot be carried out.

    Attributes:
        code: `invalid_path`, `wrong_size`, `workspace_full`, `not_found`, `busy`, …
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def refusal(error: OSError, path: str) -> Refused:
    """Say what an error of the file system means to the caller."""
    if error.errno in _FULL:
        return Refused("workspace_full", f"no room for {path!r}: the workspace is full")
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL):
        return Refused("invalid_path", f"{path!r} cannot be used: {error.strerror}")
    if error.errno == errno.ENOENT:
        return Refused("not_found", f"there is no file {path!r}")
    return Refused("io_error", f"{path!r}: {error.strerror}")


def parts_of(path: str) -> list[str]:
    """Split a relative path.

    Raises:
        Refused: It is empty or absolute, or has a part that is empty, `.`, `..` or longer than a name may be.
    """
    parts = path.split("/")
    for part in parts:
        if part in ("", ".", "..") or "\0" in part:
            raise Refused("invalid_path", f"{path!r} is no relative path without '.', '..' and empty parts")
        if len(part.encode("utf-8", "surrogatepass")) > _MAX_PART_BYTES:
            raise Refused("invalid_path", f"a name in the path is longer than {_MAX_PART_BYTES} bytes")
    return parts


class Folder:
    """A directory, known by its descriptor, whose files are reached by relative path."""

    def __init__(self, root: int) -> None:
        self.root = root

    @contextlib.contextmanager
    def _above(self, path: str, *, is_made: bool = False) -> Iterator[tuple[int, str]]:
        """Open the folder that holds the last part of the path; gives (descriptor, last part)."""
        *above, name = parts_of(path)
        try:
            here = reopen(self.root)
            try:
                for part in above:
                    here = _step(here, part, is_made)
                yield here, name
            finally:
                os.close(here)
        except OSError as error:
            raise refusal(error, path) from error

    def open_file(self, path: str) -> int:
        """Open a regular file for reading; the caller closes the descriptor.

        Raises:
            Refused: There is none; a link, folder, device or pipe is none.
        """
        with self._above(path) as (folder, name):
            if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                raise Refused("not_found", f"{path!r} is no regular file")
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            descriptor = os.open(name, flags, dir_fd=folder)
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return descriptor
            os.close(descriptor)
            raise Refused("not_found", f"{path!r} is no regular file")

    def delete(self, path: str) -> bool:
        """Remove a file or link; whether it existed."""
        try:
            with self._above(path) as (folder, name):
                os.unlink(name, dir_fd=folder)
        except Refused as refused:
            if refused.code == "not_found":
                return False
            raise
        return True

    def receive(self, path: str, size_bytes: int, mode: int) -> "Incoming":
        """Begin to write a file, and the folders above it."""
        parts_of(path)
        return Incoming(self, path, size_bytes, mode)


class Incoming:
    """A file on its way in: it takes its name when it is complete."""

    def __init__(self, folder: Folder, path: str, size_bytes: int, mode: int) -> None:
        self._folder, self._path, self._left, self._mode = folder, path, size_bytes, mode
        self._part = f".part-{os.getpid()}-{id(self)}"
        with folder._above(path, is_made=True) as (above, _name):
            self._above = os.dup(above)
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                self._file = os.open(self._part, flags, 0o600, dir_fd=above)
            except OSError:
                os.close(self._above)
                raise

    def write(self, piece: bytes) -> None:
        """Write the next piece.

        Raises:
            Refused: It has more bytes than was said, or there is no room.
        """
        self._left -= len(piece)
        if self._left < 0:
            raise Refused("wrong_size", f"{self._path!r} has {-self._left} bytes more than was said")
        try:
            write_all(self._file, piece)
        except OSError as error:
            raise refusal(error, self._path) from error

    def finish(self) -> None:
        """Give it its name."""
        if self._left:
            raise Refused("wrong_size", f"{self._path!r} has {self._left} bytes less than was said")
        try:
            os.fchmod(self._file, self._mode)
            name = self._path.rpartition("/")[2]
            os.rename(self._part, name, src_dir_fd=self._above, dst_dir_fd=self._above)
        except OSError as error:
            raise refusal(error, self._path) from error
        self._close()

    def abandon(self) -> None:
        """Leave nothing of it."""
        with contextlib.suppress(OSError):
            os.unlink(self._part, dir_fd=self._above)
        self._close()

    def _close(self) -> None:
        for descriptor in (self._file, self._above):
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _step(here: int, part: str, is_made: bool) -> int:
    """Open the folder `part` in `here`, which is closed when that worked."""
    if is_made:
        with contextlib.suppress(FileExistsError):
            os.mkdir(part, 0o755, dir_fd=here)
    return moved(here, os.open(part, _FOLDER, dir_fd=here))


def remove_tree(root: str) -> None:
    """Remove a directory with one descriptor open at a time and no recursion.

    Raises:
        OSError: It is deeper than `_DEEPEST`, or cannot be removed; a part may be gone.
    """
    here = open_own(root)
    names = list[str]()
    try:
        while True:
            below = _remove_files(here)
            if below is not None:
                if len(names) == _DEEPEST:
                    raise OSError(errno.ENAMETOOLONG, f"deeper than {_DEEPEST} folders")
                here = moved(here, open_own(below, here))
                names.append(below)
            elif names:
                here = moved(here, os.open("..", _FOLDER, dir_fd=here))
                os.rmdir(names.pop(), dir_fd=here)
            else:
                break
    finally:
        os.close(here)
    os.rmdir(root)  # noqa: PTH106 paths inside are text


def reopen(folder: int) -> int:
    """Open a folder again, also one that its owner has locked since."""
    try:
        return os.open(".", _FOLDER, dir_fd=folder)
    except PermissionError:
        os.fchmod(folder, 0o700)
        return os.open(".", _FOLDER, dir_fd=folder)


def open_own(name: str, above: int | None = None) -> int:
    """Open a folder, also one that its owner has made unreadable."""
    try:
        return os.open(name, _FOLDER, dir_fd=above)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=above)
        return os.open(name, _FOLDER, dir_fd=above)


def moved(here: int, there: int) -> int:
    """Go from one open folder to another: closes the first, gives the second."""
    os.close(here)
    return there


def _remove_files(here: int) -> str | None:
    """Remove what is no folder; gives one of the folders."""
    os.fchmod(here, 0o700)
    folder: str | None = None
    with os.scandir(here) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                folder = entry.name
            else:
                os.unlink(entry.name, dir_fd=here)
    return folder
