"""The private root: what every box sees of the host, mounted once and read-only, and nothing else.

Host directories appear at their own paths: programs, libraries, the interpreter and the packages. Homes, the data
directory, sockets, /sys, /run and /var are not there. The zygote itself lives in it, so it sees no more than boxes do,
but for /proc of the host, which no box inherits.
"""

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trainyard.sandbox.inside import kernel
from trainyard.sandbox.inside.zygote import identity

PREFIX: Final = "/opt/sandbox"
"""Where `bin/python3` is, and the packages, laid out as a virtual environment."""
LIBRARY: Final = f"{PREFIX}/library"
WORKSPACE: Final = "/mnt/data"
WRITABLE: Final = ("/tmp", "/dev/shm", WORKSPACE)  # noqa: S108 - the box's own
TEMPLATE: Final = f"{WORKSPACE}/template"
STAGE: Final = f"{WORKSPACE}/box"
"""In the zygote: a copy of the mounts to start from, and where a box arranges its own."""
DEVICES: Final = ("null", "zero", "full", "random", "urandom")

_NEW, _OLD = "/new", "/old"
_MS_UNBINDABLE: Final = 1 << 17
_SIZE: Final = "size=8m,nr_inodes=8192,mode=755"
_READ_ONLY: Final = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV
_TOP: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_COPIED: Final = (
    "ld.so.cache", "ld.so.conf", "localtime", "mime.types", "os-release", "protocols", "services", "timezone",
)  # fmt: skip
_GENERATED: Final = {
    "passwd": f"{identity.NAME}:x:{identity.INSIDE_ID}:{identity.INSIDE_ID}::/tmp:/bin/bash\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": f"{identity.NAME}:x:{identity.INSIDE_ID}:\nnogroup:x:65534:\n",
    "hosts": f"127.0.0.1 localhost {identity.NAME}\n::1 localhost\n",
    "hostname": f"{identity.NAME}\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\nservices: files\nprotocols: files\n",
}


@dataclass(frozen=True)
class Plan:
    """What the root is made of.

    Attributes:
        interpreter: Path of the program.
        prefixes: Directories of the interpreter, where they are not below /usr.
        packages: Virtual environment, or None.
        site_packages: The directory in it that holds the packages, or None.
        library: Directory of a package that the runner imports; appears below `LIBRARY`.
        etc: Patterns below /etc.
    """

    interpreter: str
    version: str
    prefixes: Sequence[str]
    packages: str | None
    site_packages: str | None
    library: str
    etc: Sequence[str]

    @property
    def trees(self) -> list[str]:
        """Directories of the host that appear at their own paths, /usr and its like left out."""
        wanted = [*self.prefixes, *([self.packages] if self.packages else [])]
        return [path for path in wanted if not _is_below(path, ["/usr"])]

    @property
    def covered_trees(self) -> tuple[str, ...]:
        """Those that what a box mounts for itself would cover; it puts them on top again."""
        return tuple(tree for tree in self.trees if _is_below(tree, WRITABLE))


def enter(plan: Plan) -> None:
    """Build the root in this process's own mount namespace and move into it."""
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", "/tmp", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755")  # noqa: S108 - a mount point
    for name in (_NEW, _OLD):
        os.mkdir(f"/tmp{name}")  # noqa: PTH102, S108 - paths are text here, and this is a mount point
    kernel.pivot_root("/tmp", f"/tmp{_OLD}")  # noqa: S108 - a mount point
    os.chdir("/")
    kernel.mount("tmpfs", _NEW, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, _SIZE)
    _fill(plan)
    kernel.restrict_mounts(_NEW, kernel.MS_RDONLY, is_recursive=False)
    os.chdir(_NEW)
    kernel.pivot_root(".", ".")
    kernel.unmount(".")
    os.chdir("/")
    _keep_template()


def _fill(plan: Plan) -> None:
    for path in ("/proc", "/etc", *WRITABLE):
        _make(path)
    _bind_tree("/usr")
    for name in _TOP:
        _bind_or_link(f"/{name}")
    for path in plan.trees:
        _bind_tree(path)
    _fill_dev()
    _fill_etc(plan.etc)
    _fill_prefix(plan)
    kernel.mount(f"{_OLD}/proc", f"{_NEW}/proc", None, kernel.MS_BIND | kernel.MS_REC)


def _keep_template() -> None:
    """Keep a second copy of the mounts, without /proc of the host, for boxes to start from."""
    for place in (WORKSPACE, "/tmp"):  # noqa: S108 - where what is loaded can write, and believes that it always can
        kernel.mount("tmpfs", place, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755")
    for place in (WORKSPACE, "/tmp", "/proc"):  # noqa: S108 - the same
        kernel.mount(None, place, None, _MS_UNBINDABLE)
    for place in (TEMPLATE, STAGE):
        os.mkdir(place)  # noqa: PTH102 - paths are text here
    kernel.mount("/", TEMPLATE, None, kernel.MS_BIND | kernel.MS_REC)


def _fill_dev() -> None:
    for name in DEVICES:
        Path(_NEW, "dev", name).touch()
        kernel.mount(f"{_OLD}/dev/{name}", f"{_NEW}/dev/{name}", None, kernel.MS_BIND)
        kernel.restrict_mounts(f"{_NEW}/dev/{name}", kernel.MS_NOSUID | kernel.MS_NOEXEC)
    for name, target in {"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"}.items():
        Path(_NEW, "dev", name).symlink_to(f"/proc/self/fd{target}")


def _fill_etc(patterns: Iterable[str]) -> None:
    for name, text in _GENERATED.items():
        Path(_NEW, "etc", name).write_text(text)
    for name in _COPIED:
        source = Path(_OLD, "etc", name)
        if source.is_symlink() or source.is_file():
            shutil.copy(source, Path(_NEW, "etc", name), follow_symlinks=False)
    for pattern in patterns:
        for found in sorted(Path(_OLD).glob(pattern.removeprefix("/"))):
            _bind_found(found)


def _bind_found(found: Path) -> None:
    path = f"/{found.relative_to(_OLD)}"
    if found.is_symlink():
        _make(os.path.dirname(path))  # noqa: PTH120 - paths are text here
        Path(f"{_NEW}{path}").symlink_to(found.readlink())
    elif found.is_dir():
        _bind_tree(path)
    else:
        _make(os.path.dirname(path))  # noqa: PTH120 - paths are text here
        shutil.copyfile(found, f"{_NEW}{path}")


def _fill_prefix(plan: Plan) -> None:
    """Lay out the prefix as a virtual environment of the interpreter, so that programs find the same packages."""
    _make(f"{PREFIX}/bin")
    _make(LIBRARY)
    for name in ("python", "python3"):
        Path(f"{_NEW}{PREFIX}/bin/{name}").symlink_to(plan.interpreter)
    home = os.path.dirname(plan.interpreter)  # noqa: PTH120 - paths are text here
    Path(f"{_NEW}{PREFIX}/pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n")
    _make(f"{PREFIX}/lib/python{plan.version}")
    if plan.site_packages is not None:
        Path(f"{_NEW}{PREFIX}/lib/python{plan.version}/site-packages").symlink_to(plan.site_packages)
    _bind_as(plan.library, f"{LIBRARY}/{os.path.basename(plan.library)}")  # noqa: PTH119 - paths are text here


def _bind_or_link(path: str) -> None:
    source = Path(f"{_OLD}{path}")
    if source.is_symlink():
        Path(f"{_NEW}{path}").symlink_to(source.readlink())
    elif source.is_dir():
        _bind_tree(path)


def _bind_tree(path: str) -> None:
    _bind_as(path, path)


def _bind_as(source: str, target: str) -> None:
    _make(target)
    kernel.mount(f"{_OLD}{source}", f"{_NEW}{target}", None, kernel.MS_BIND | kernel.MS_REC)
    kernel.restrict_mounts(f"{_NEW}{target}", _READ_ONLY)


def _make(path: str) -> None:
    os.makedirs(f"{_NEW}{path}", mode=0o755, exist_ok=True)  # noqa: PTH103 - paths are text here


def _is_below(path: str, trees: Iterable[str]) -> bool:
    return any(path == tree or path.startswith(f"{tree}/") for tree in trees)
