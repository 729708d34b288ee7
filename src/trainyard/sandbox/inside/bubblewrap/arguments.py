"""What bwrap is told: the arguments that make a box of what `scene` lists."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from trainyard.sandbox.inside import scene
from trainyard.sandbox.inside.lockdown.limits import Limits

SPOOL: Final = "/spool"
RUNNER: Final = f"{scene.PREFIX}/runner"
"""Where a box finds this package."""

_INSIDE: Final = "trainyard/sandbox/inside"
PROGRAM: Final = f"{RUNNER}/{_INSIDE}/bubblewrap/box.py"
_ID: Final = str(scene.INSIDE_ID)
_APART: Final = (
    *("--unshare-all", "--unshare-user", "--uid", _ID, "--gid", _ID, "--hostname", scene.NAME),
    *("--die-with-parent", "--new-session", "--as-pid-1", "--cap-drop", "ALL", "--clearenv"),
)
_NOTHING_BYTES: Final = "4096"


def program_items() -> list[scene.Item]:
    """List what a box needs beside the scene: the runner's files, and a place for what the runner keeps."""
    source = Path(__file__).resolve().parents[4]
    packages = (f"{package}/__init__.py" for package in ("trainyard", "trainyard/sandbox"))
    return [
        scene.Folder(SPOOL),
        *(scene.File(f"{RUNNER}/{path}", str(source / path)) for path in packages),
        scene.Tree(f"{RUNNER}/{_INSIDE}", str(source / _INSIDE)),
    ]


def of(items: Iterable[scene.Item] | None, covered: Sequence[str], bars: Limits) -> list[str]:
    """Put the arguments together; memory first, so that what lies below /tmp of the host is seen all the same.

    Args:
        items: What is to be seen; None = this process's own root, and the covered trees.
        covered: See `scene.Plan.covered_trees`.
        bars: Sizes of what can be written.
    """
    shown = map(_covered, covered) if items is None else items
    whole = ("--ro-bind", "/", "/") if items is None else ()
    links = () if items is None else _device_links()
    return [*_APART, *whole, *_memory(bars), *_show(shown), *_devices(), *links, *_proc(), "--remount-ro", "/"]


def _covered(tree: str) -> scene.Item:
    return scene.Tree(tree, tree)


def _memory(bars: Limits) -> Iterator[str]:
    temporary, shared, workspace = scene.WRITABLE
    sizes = {
        temporary: ("1777", bars.scratch_bytes),
        shared: ("1777", bars.scratch_bytes // 4),
        workspace: ("0700", bars.workspace_bytes),
        SPOOL: ("0700", bars.spool_bytes),
    }
    for path, (mode, size_bytes) in sizes.items():
        yield from ("--perms", mode, "--size", str(size_bytes), "--tmpfs", path)


def _show(items: Iterable[scene.Item]) -> Iterator[str]:
    for item in items:
        match item:
            case scene.Folder():
                yield from ("--dir", item.path)
            case scene.Link():
                yield from ("--symlink", item.target, item.path)
            case scene.Text():
                yield from ("--perms", "0444", "--ro-bind-data", str(_holding(item.text)), item.path)
            case _:
                yield from ("--ro-bind", item.source, item.path)


def _holding(text: str) -> int:
    """Open a file without a name, to be read once by the bwrap that this process becomes."""
    descriptor = os.memfd_create("text", 0)
    os.write(descriptor, text.encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _devices() -> Iterator[str]:
    for path in scene.DEVICE_PATHS:
        yield from ("--dev-bind", path, path)


def _device_links() -> Iterator[str]:
    for name, target in scene.DEVICE_LINKS.items():
        yield from ("--symlink", f"/proc/self/fd{target}", f"/dev/{name}")


def _proc() -> Iterator[str]:
    yield from ("--proc", "/proc")
    for name in scene.HIDDEN_FILES:
        if os.path.exists(path := f"/proc/{name}"):  # noqa: PTH110 - paths are text here
            yield from ("--dev-bind", "/dev/null", path)
    for name in scene.HIDDEN_DIRECTORIES:
        if os.path.exists(path := f"/proc/{name}"):  # noqa: PTH110 - paths are text here
            yield from ("--perms", "0555", "--size", _NOTHING_BYTES, "--tmpfs", path, "--remount-ro", path)
    yield from ("--remount-ro", "/proc")
