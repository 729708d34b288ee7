"""What a box sees of the host, as a list: its programs, libraries, interpreter, packages, a small /etc, five devices.

Host directories appear at their own paths. Homes, the data directory, sockets, /sys, /run and /var are not in it. How
the list becomes a root is up to who isolates: `zygote.root` mounts it, `bubblewrap.arguments` has it mounted.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PREFIX: Final = "/opt/sandbox"
"""Where `bin/python3` is, and the packages, laid out as a virtual environment."""
LIBRARY: Final = f"{PREFIX}/library"
WORKSPACE: Final = "/mnt/data"
WRITABLE: Final = ("/tmp", "/dev/shm", WORKSPACE)  # noqa: S108 - the box's own
DEVICES: Final = ("null", "zero", "full", "random", "urandom")
DEVICE_PATHS: Final = tuple(f"/dev/{name}" for name in DEVICES)
DEVICE_LINKS: Final = {"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"}
"""Below /dev, to what below /proc/self/fd."""
INSIDE_ID: Final = 1000
"""User and group in the box; root there is nobody, since it has no id on the host."""
NAME: Final = "sandbox"
"""Of the user, and of the machine."""
HIDDEN_FILES: Final = ("kcore", "keys", "key-users", "kmsg", "sysrq-trigger", "timer_list", "config.gz", "cmdline")
HIDDEN_DIRECTORIES: Final = ("acpi", "asound", "bus", "driver", "fs", "irq", "scsi", "tty")
"""Of a /proc: what tells of the machine, or acts on it."""

_TOP: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_COPIED: Final = (
    "ld.so.cache", "ld.so.conf", "localtime", "mime.types", "os-release", "protocols", "services", "timezone",
)  # fmt: skip
_GENERATED: Final = {
    "passwd": f"{NAME}:x:{INSIDE_ID}:{INSIDE_ID}::/tmp:/bin/bash\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": f"{NAME}:x:{INSIDE_ID}:\nnogroup:x:65534:\n",
    "hosts": f"127.0.0.1 localhost {NAME}\n::1 localhost\n",
    "hostname": f"{NAME}\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\nservices: files\nprotocols: files\n",
}


@dataclass(frozen=True)
class Tree:
    """A directory of the host, read-only."""

    path: str
    source: str


@dataclass(frozen=True)
class File:
    """A file of the host, as it is when the root is made."""

    path: str
    source: str


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    path: str
    target: str


@dataclass(frozen=True)
class Text:
    """A file that the host does not have."""

    path: str
    text: str


@dataclass(frozen=True)
class Folder:
    """An empty directory, to be mounted on."""

    path: str


Item = Tree | File | Link | Text | Folder


@dataclass(frozen=True)
class Plan:
    """What it depends on.

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


def items(plan: Plan) -> list[Item]:
    """List what a box sees; the parents of a path need not be in it. Read from the host, whose root is still `/`."""
    return [
        *(Folder(path) for path in ("/proc", "/etc", *WRITABLE)),
        Tree("/usr", "/usr"),
        *_found((Path("/", name) for name in _TOP), kept=Tree),
        *(Tree(path, path) for path in plan.trees),
        *(Text(f"/etc/{name}", text) for name, text in _GENERATED.items()),
        *_found((Path("/etc", name) for name in _COPIED), kept=File),
        *(item for pattern in plan.etc for item in _found(sorted(Path("/").glob(pattern.removeprefix("/"))))),
        *_prefix(plan),
    ]


def _found(paths: Iterable[Path], *, kept: type[Tree] | type[File] | None = None) -> Iterator[Item]:
    """Show what lies at these paths: links as links, the rest as it is, or only what is of one kind."""
    for path in paths:
        text = str(path)
        if path.is_symlink():
            yield Link(text, str(path.readlink()))
        elif path.is_dir() and kept is not File:
            yield Tree(text, text)
        elif path.is_file() and kept is not Tree:
            yield File(text, text)


def _prefix(plan: Plan) -> Iterator[Item]:
    """Lay out the prefix as a virtual environment of the interpreter, so that programs find the same packages."""
    for name in ("python", "python3"):
        yield Link(f"{PREFIX}/bin/{name}", plan.interpreter)
    home = os.path.dirname(plan.interpreter)  # noqa: PTH120 - paths are text here
    yield Text(f"{PREFIX}/pyvenv.cfg", f"home = {home}\ninclude-system-site-packages = false\n")
    yield Folder(f"{PREFIX}/lib/python{plan.version}")
    if plan.site_packages is not None:
        yield Link(f"{PREFIX}/lib/python{plan.version}/site-packages", plan.site_packages)
    yield Tree(f"{LIBRARY}/{os.path.basename(plan.library)}", plan.library)  # noqa: PTH119 - paths are text here


def _is_below(path: str, trees: Iterable[str]) -> bool:
    return any(path == tree or path.startswith(f"{tree}/") for tree in trees)
