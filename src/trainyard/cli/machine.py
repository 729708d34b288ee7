"""What a machine can do, one fact at a time, each with what to install or change where it falls short."""

import importlib.util
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from trainyard.core.processes import runfile
from trainyard.core.settings import Settings

GIB = 1024**3
LEAST_MEMORY = 2 * GIB
"""A server with the pocket model holds about 0.7 GiB; the rest is for what else runs."""
LEAST_DISK = 1 * GIB
TORCH_TIMEOUT_S = 120.0
REACH_TIMEOUT_S = 3.0

_TORCH_FACTS = (
    "import json, torch; print(json.dumps({'version': torch.__version__, 'threads': torch.get_num_threads(), "
    "'gpus': [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]}))"
)


_URL_OF = {"postgres": "database.url", "redis": "redis.url"}


class Verdict(StrEnum):
    """What a fact means for the user."""

    OK = "ok"
    OPTIONAL = "optional"  # a part that is not needed is absent
    FAILED = "failed"  # the server cannot work like this


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of the doctor.

    Attributes:
        found: What is there.
        advice: What to install or change; empty when all is well.
    """

    name: str
    verdict: Verdict
    found: str
    advice: str = ""


def examine(settings: Settings) -> Iterator[Fact]:
    """Look at everything, the cheap facts first."""
    yield python()
    yield cores()
    yield memory()
    yield disk(settings.data_dir)
    yield data_directory(settings.data_dir)
    yield port(settings.server.host, settings.server.port, settings.data_dir)
    yield postgres_client()
    yield driver("postgres", "psycopg", "database.url: postgresql://…")
    yield driver("redis", "redis", "redis.url, which several HTTP processes need")
    yield driver("s3", "aiobotocore", "blobs.url: s3://…")
    for name, url, default in (("postgres", settings.database.url, 5432), ("redis", settings.redis.url, 6379)):
        if url is not None and not url.startswith("sqlite"):
            yield reachable(name, url, default)
    yield from torch_facts()


def python(version: tuple[int, int] = sys.version_info[:2]) -> Fact:
    """Check the interpreter."""
    good = version >= (3, 11)
    return Fact("python", _verdict(good), platform.python_version(), "" if good else "install Python 3.11 or newer")


def cores() -> Fact:
    """Count the cores that this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Fact("cores", Verdict.OK, str(usable))


def memory(total_bytes: int | None = None) -> Fact:
    """Measure the memory, that of the control group where one sets a limit."""
    size = total_bytes or min(_physical_memory(), _memory_limit())
    good = size >= LEAST_MEMORY
    return Fact("memory", _verdict(good), f"{size / GIB:.1f} GiB", "" if good else "2 GiB or more are needed")


def disk(directory: Path) -> Fact:
    """Measure the free space where the data directory is or will be."""
    free = shutil.disk_usage(_nearest(directory)).free
    good = free >= LEAST_DISK
    return Fact("disk", _verdict(good), f"{free / GIB:.1f} GiB free", "" if good else "free at least 1 GiB")


def data_directory(directory: Path) -> Fact:
    """Try to write a file where the data directory is or will be."""
    place = _nearest(directory)
    try:
        with tempfile.TemporaryFile(dir=place):
            return Fact("data directory", Verdict.OK, f"{directory} can be written")
    except OSError as error:
        advice = f"make {place} writable or choose another with --data-dir"
        return Fact("data directory", Verdict.FAILED, f"{directory}: {error.strerror}", advice)


def port(host: str, number: int, data_dir: Path | None = None) -> Fact:
    """Try to listen where the server would; its own server of this data directory is no obstacle."""
    place = f"{host}:{number}"
    try:
        family, _, _, _, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        run = None if data_dir is None else runfile.read(data_dir / "run.json")
        if run is not None and urlsplit(run.url).port == number:
            return Fact("port", Verdict.OK, f"{place} is the running server's, pid {run.pid}")
        return Fact("port", Verdict.FAILED, f"{place}: {error.strerror}", "stop what listens there or choose --port")
    return Fact("port", Verdict.OK, f"{place} is free")


def postgres_client(which: Callable[[str], str | None] = shutil.which) -> Fact:
    """Look for the program psql."""
    found = which("psql")
    advice = "" if found else "only for database.url: postgresql://…: install your system's postgresql-client"
    return Fact("postgres client", Verdict.OK if found else Verdict.OPTIONAL, found or "not installed", advice)


def driver(name: str, package: str, needed_for: str) -> Fact:
    """Look for the Python driver of a server beside ours."""
    found = importlib.util.find_spec(package) is not None
    advice = "" if found else f"only for {needed_for}: pip install 'trainyard[{name}]'"
    return Fact(f"{name} driver", Verdict.OK if found else Verdict.OPTIONAL, _installed(found), advice)


def reachable(name: str, url: str, default_port: int) -> Fact:
    """Open a connection to a server that the settings name; who may log in there is not asked."""
    parts = urlsplit(url)
    host, number = parts.hostname or "127.0.0.1", parts.port or default_port
    try:
        socket.create_connection((host, number), timeout=REACH_TIMEOUT_S).close()
    except OSError as error:
        why = error.strerror or str(error)
        return Fact(name, Verdict.FAILED, f"{host}:{number}: {why}", f"start it, or correct {_URL_OF[name]}")
    return Fact(name, Verdict.OK, f"{host}:{number} can be reached")


def torch_facts() -> Iterator[Fact]:
    """Ask torch in a process of its own, since this one never loads it."""
    try:
        answer = subprocess.run(
            [sys.executable, "-c", _TORCH_FACTS], capture_output=True, text=True, timeout=TORCH_TIMEOUT_S, check=True
        )
        found = json.loads(answer.stdout)
    except (subprocess.SubprocessError, ValueError) as error:
        reason = str(getattr(error, "stderr", "") or error).strip().splitlines()[-1]
        yield Fact("torch", Verdict.FAILED, reason, "pip install 'torch>=2.10,<2.14'")
        return
    yield Fact("torch", Verdict.OK, f"{found['version']}, {found['threads']} threads")
    gpus = ", ".join(found["gpus"])
    advice = "" if gpus else "not needed; a CUDA build of torch and a driver would use one"
    yield Fact("gpu", Verdict.OK if gpus else Verdict.OPTIONAL, gpus or "none", advice)


def _verdict(is_good: bool) -> Verdict:
    return Verdict.OK if is_good else Verdict.FAILED


def _installed(is_there: bool) -> str:
    return "installed" if is_there else "not installed"


def _nearest(directory: Path) -> Path:
    """Find the directory itself or the nearest of its parents that exists."""
    absolute = directory.absolute()
    return next(place for place in (absolute, *absolute.parents) if place.is_dir())


def _physical_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _memory_limit() -> int:
    """Read the limit of the control group; without one, more than any machine has."""
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        file = Path(name)
        if file.is_file() and (text := file.read_text().strip()).isdigit():
            return int(text)
    return sys.maxsize
