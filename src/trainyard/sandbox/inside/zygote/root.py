"""The private root: what every box sees of the host (`scene`), mounted once and read-only, and nothing else.

The process that builds it lives in it too, so it sees no more than boxes do, but for /proc of the host, which no box
inherits.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from trainyard.sandbox.inside import kernel, scene
from trainyard.sandbox.inside.scene import WORKSPACE

TEMPLATE: Final = f"{WORKSPACE}/template"
STAGE: Final = f"{WORKSPACE}/box"
"""In the zygote: a copy of the mounts to start from, and where a box arranges its own."""

_NEW, _OLD = "/new", "/old"
_MS_UNBINDABLE: Final = 1 << 17
_SIZE: Final = "size=8m,nr_inodes=8192,mode=755"
_READ_ONLY: Final = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV


def enter(items: Sequence[scene.Item]) -> None:
    """Build the root in this process's own mount namespace and move into it."""
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", "/tmp", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755")  # noqa: S108 - a mount point
    for name in (_NEW, _OLD):
        os.mkdir(f"/tmp{name}")  # noqa: PTH102, S108 - paths are text here, and this is a mount point
    kernel.pivot_root("/tmp", f"/tmp{_OLD}")  # noqa: S108 - a mount point
    os.chdir("/")
    kernel.mount("tmpfs", _NEW, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, _SIZE)
    for item in items:
        _show(item)
    _fill_dev()
    kernel.mount(f"{_OLD}/proc", f"{_NEW}/proc", None, kernel.MS_BIND | kernel.MS_REC)
    kernel.restrict_mounts(_NEW, kernel.MS_RDONLY, is_recursive=False)
    os.chdir(_NEW)
    kernel.pivot_root(".", ".")
    kernel.unmount(".")
    os.chdir("/")


def keep_template(covered: Sequence[str]) -> None:
    """Keep a second copy of the mounts, without /proc of the host, for boxes to start from.

    Args:
        covered: See `scene.Plan.covered_trees`.
    """
    for place in (WORKSPACE, "/tmp"):  # noqa: S108 - where what is loaded can write, and believes that it always can
        kernel.mount("tmpfs", place, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755")
    for place in (WORKSPACE, "/tmp", "/proc"):  # noqa: S108 - the same
        kernel.mount(None, place, None, _MS_UNBINDABLE)
    for place in (TEMPLATE, STAGE):
        os.mkdir(place)  # noqa: PTH102 - paths are text here
    kernel.mount("/", TEMPLATE, None, kernel.MS_BIND | kernel.MS_REC)
    uncover(covered, "")


def uncover(trees: Sequence[str], below: str) -> None:
    """Put trees of the host on top of what has been mounted over them, in the root that lies at `below`."""
    for tree in trees:
        os.makedirs(f"{below}{tree}", exist_ok=True)  # noqa: PTH103 - paths are text here
        kernel.mount(f"{TEMPLATE}{tree}", f"{below}{tree}", None, kernel.MS_BIND | kernel.MS_REC)


def _show(item: scene.Item) -> None:
    if isinstance(item, scene.Folder):
        _make(item.path)
        return
    if isinstance(item, scene.Tree):
        _make(item.path)
        kernel.mount(f"{_OLD}{item.source}", f"{_NEW}{item.path}", None, kernel.MS_BIND | kernel.MS_REC)
        kernel.restrict_mounts(f"{_NEW}{item.path}", _READ_ONLY)
        return
    _make(os.path.dirname(item.path))  # noqa: PTH120 - paths are text here
    new = Path(f"{_NEW}{item.path}")
    match item:
        case scene.Link(target=target):
            new.symlink_to(target)
        case scene.Text(text=text):
            new.write_text(text)
        case scene.File(source=source):
            shutil.copyfile(f"{_OLD}{source}", new)


def _fill_dev() -> None:
    for name in scene.DEVICES:
        Path(_NEW, "dev", name).touch()
        kernel.mount(f"{_OLD}/dev/{name}", f"{_NEW}/dev/{name}", None, kernel.MS_BIND)
        kernel.restrict_mounts(f"{_NEW}/dev/{name}", kernel.MS_NOSUID | kernel.MS_NOEXEC)
    for name, target in scene.DEVICE_LINKS.items():
        Path(_NEW, "dev", name).symlink_to(f"/proc/self/fd{target}")


def _make(path: str) -> None:
    os.makedirs(f"{_NEW}{path}", mode=0o755, exist_ok=True)  # noqa: PTH103 - paths are text here
