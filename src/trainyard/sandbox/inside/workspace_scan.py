"""What code has left in the workspace, against what was accepted last."""

import os
import stat
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from trainyard.sandbox.inside import workspace

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MAX_PATH_BYTES = 4000
"""Of one path; nothing could be opened by a longer one."""
MAX_PATHS_BYTES = 4 << 20
"""Of all paths in one report."""
MAX_CHANGES = 50_000
MAX_SKIPPED = 200
MAX_ENTRIES = 200_000
"""Files and folders that a scan looks at."""


class Seen(NamedTuple):
    """What tells two versions of a file apart."""

    inode: int
    mode: int
    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True, slots=True)
class Findings:
    """One scan.

    Attributes:
        files: Regular files by path.
        oddities: Why the others are no outputs, by a path that may be shown.
        identities: What each of the oddities was, to tell whether it is new.
    """

    files: dict[str, Seen] = field(default_factory=dict)
    oddities: dict[str, str] = field(default_factory=dict)
    identities: dict[str, Seen] = field(default_factory=dict)

    def set_aside(self, path: str, why: str, seen: Seen) -> None:
        """Note what is no output."""
        shown = path.encode("utf-8", "backslashreplace").decode()
        shown = shown if len(shown) <= 300 else f"{shown[:140]}…{shown[-140:]}"
        self.oddities[shown] = why
        self.identities[shown] = seen


class Ledger:
    """Knows what was accepted, tells what differs."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._accepted = Findings()

    def accept(self) -> None:
        """Let what is there now count as known."""
        self._accepted = scan(self._root)

    def report(self) -> dict[str, Any]:
        """`changed`, `deleted` and `skipped` of a report."""
        now, before = scan(self._root), self._accepted
        differ = sorted(path for path, seen in now.files.items() if before.files.get(path) != seen)
        changed = _bounded(differ)
        deleted = _bounded(sorted(path for path in before.files if path not in now.files))
        odd = sorted(path for path, seen in now.identities.items() if before.identities.get(path) != seen)
        skipped = [f"{path}: {now.oddities[path]}" for path in odd[:MAX_SKIPPED]]
        left_out = len(differ) - len(changed) + len(odd) - len(skipped)
        if left_out:
            skipped.append(f"{left_out} more: too many")
        return {
            "changed": [_change(path, now.files[path], path in before.files) for path in changed],
            "deleted": deleted,
            "skipped": skipped,
        }


def _bounded(paths: list[str]) -> list[str]:
    """As many of them as fit into a report."""
    room = MAX_PATHS_BYTES
    for count, path in enumerate(paths):
        room -= len(path.encode())
        if room < 0 or count == MAX_CHANGES:
            return paths[:count]
    return paths


def _change(path: str, seen: Seen, is_known: bool) -> dict[str, Any]:
    kind = "changed" if is_known else "new"
    return {"path": path, "kind": kind, "size_bytes": seen.size, "mtime_ns": seen.mtime_ns}


def scan(root: int) -> Findings:
    """Look at what lies below an open directory, with one descriptor open at a time and no recursion.

    Folders whose path is too long for an output are not entered: to open one takes the longer the deeper it lies.

    Nothing else runs meanwhile: the processes of the box have ended, and its interpreter is stopped.
    """
    findings = Findings()
    links: dict[int, list[str]] = {}
    for count, (path, about) in enumerate(_walk(root)):
        if count >= MAX_ENTRIES:
            findings.set_aside(path, "too many files", _seen(about))
            break
        why = _why_not(path, about)
        if why is not None:
            findings.set_aside(path, why, _seen(about))
            continue
        findings.files[path] = _seen(about)
        if about.st_nlink > 1:
            links.setdefault(about.st_ino, []).append(path)
            if len(links[about.st_ino]) == about.st_nlink:
                del links[about.st_ino]
    for path in (path for paths in links.values() for path in paths):
        findings.set_aside(path, "hard link to a file elsewhere", findings.files.pop(path))
    return findings


def _walk(root: int) -> Iterator[tuple[str, os.stat_result]]:
    """Give (path, stat) of everything that is no folder, or one that is not entered."""
    here = workspace.reopen(root)
    above: list[tuple[int, int, str, list[str]]] = []
    prefix = ""
    try:
        folders = yield from _files_of(here, prefix)
        while folders or above:
            if not folders:
                device, inode, prefix, folders = above.pop()
                here = workspace.moved(here, os.open("..", _FOLDER, dir_fd=here))
                about = os.fstat(here)
                if (about.st_dev, about.st_ino) != (device, inode):
                    return  # somebody moves folders meanwhile: what else is there cannot be told
                continue
            name = folders.pop()
            if len(prefix) > MAX_PATH_BYTES:
                yield prefix + name, os.stat(name, dir_fd=here, follow_symlinks=False)
                continue
            below = _open_folder(here, name)
            if below is not None:
                about = os.fstat(here)
                above.append((about.st_dev, about.st_ino, prefix, folders))
                here = workspace.moved(here, below)
                prefix = f"{prefix}{name}/"
                folders = yield from _files_of(here, prefix)
    finally:
        os.close(here)


def _open_folder(here: int, name: str) -> int | None:
    """Open a folder; None when it is gone."""
    try:
        return workspace.open_own(name, here)
    except OSError:
        return None


def _files_of(here: int, prefix: str) -> Generator[tuple[str, os.stat_result], None, list[str]]:
    """Give the entries of a folder that are no folders; returns the names of the folders."""
    folders = list[str]()
    with os.scandir(here) as entries:
        for entry in entries:
            try:
                about = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISDIR(about.st_mode):
                folders.append(entry.name)
            else:
                yield prefix + entry.name, about
    return folders


def _why_not(path: str, about: os.stat_result) -> str | None:
    """Say why something is no output; None when it is one."""
    for is_it, what in (
        (stat.S_ISLNK, "symbolic link"),
        (stat.S_ISFIFO, "named pipe"),
        (stat.S_ISSOCK, "socket"),
        (stat.S_ISCHR, "device"),
        (stat.S_ISBLK, "device"),
    ):
        if is_it(about.st_mode):
            return what
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        return "name is no UTF-8"
    return "path is too long" if len(encoded) > MAX_PATH_BYTES else None


def _seen(about: os.stat_result) -> Seen:
    return Seen(about.st_ino, about.st_mode, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
