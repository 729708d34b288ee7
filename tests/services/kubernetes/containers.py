"""What a container runtime does: a process with its own root, process ids and mounts, made by bubblewrap."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.services import require

Pod = dict[str, Any]
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/alternatives", "/etc/ld.so.cache")
_IS_ROOT = os.geteuid() == 0
_SUFFIXES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


@dataclass(frozen=True)
class Image:
    """What an image holds, as far as it matters.

    Attributes:
        entry_point: Command.
        binds: Path inside -> path on this machine.
    """

    entry_point: tuple[str, ...]
    binds: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


class Container:
    """One running process.

    Attributes:
        pid: Of its process 1, seen from this machine.
    """

    def __init__(self, pod_name: str, process: "subprocess.Popen[bytes]", pid: int) -> None:
        self.pod_name, self._process, self.pid = pod_name, process, pid
        self._ending: asyncio.TimerHandle | None = None
        self._over = asyncio.Event()
        self._watched = os.pidfd_open(process.pid)
        asyncio.get_running_loop().add_reader(self._watched, self._reap)

    @property
    def code(self) -> int:
        assert self._process.returncode is not None
        return self._process.returncode

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._watched)
        os.close(self._watched)
        self._process.wait()
        if self._ending is not None:
            self._ending.cancel()
        self._over.set()

    async def ended(self) -> None:
        await self._over.wait()

    def begin_to_end(self, grace_s: float) -> None:
        """SIGTERM now, SIGKILL when the grace is over."""
        if self._ending is None and not self._over.is_set():
            _send(self.pid, signal.SIGTERM)
            self._ending = asyncio.get_running_loop().call_later(grace_s, self.kill)

    def kill(self) -> None:
        if not self._over.is_set():
            _send(self.pid, signal.SIGKILL)
            self._process.kill()

    def freeze(self) -> None:
        """Stop it without closing a line, as a node does that has lost its network."""
        _send(self.pid, signal.SIGSTOP)


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


async def start(pod: Pod, image: Image, address: str) -> Container:
    """Start the one container of a pod."""
    info, held = os.pipe()
    command = [*_command(pod, image, address), "--info-fd", str(held), "--", *_argv(pod, image)]
    process = subprocess.Popen(command, pass_fds=[held], stdin=subprocess.DEVNULL)  # noqa: ASYNC220 - some ms
    os.close(held)
    try:
        told = await asyncio.to_thread(_all_of, info)
    except BaseException:
        process.kill()
        process.wait()
        raise
    if not told:
        process.wait()
        pytest.fail(f"bubblewrap does not start a container here: {command}", pytrace=False)
    return Container(pod["metadata"]["name"], process, json.loads(told)["child-pid"])


def _all_of(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as reading:
        return reading.read()


def _above(path: str) -> list[str]:
    """The folders above a mount, which bubblewrap would make for itself alone."""
    return [part for folder in reversed(Path(path).parents[:-1]) for part in ("--dir", str(folder))]


def _argv(pod: Pod, image: Image) -> list[str]:
    """As root the process becomes the user of the pod for the kernel too, as under a real kubelet."""
    container = pod["spec"]["containers"][0]
    program = [*(container.get("command") or image.entry_point), *container.get("args", [])]
    if not _IS_ROOT:
        return program
    uid, gid = _ids(pod)
    security = container.get("securityContext", {})
    drops = (
        ["--bounding-set=-all", "--inh-caps=-all"] if "ALL" in security.get("capabilities", {}).get("drop", []) else []
    )
    gains_none = ["--no-new-privs"] if security.get("allowPrivilegeEscalation") is False else []
    return ["/usr/bin/setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *drops, *gains_none, *program]


def _ids(pod: Pod) -> tuple[str, str]:
    security = {**pod["spec"].get("securityContext", {}), **pod["spec"]["containers"][0].get("securityContext", {})}
    return str(security["runAsUser"]), str(security.get("runAsGroup", security["runAsUser"]))


def _command(pod: Pod, image: Image, address: str) -> list[str]:
    program = shutil.which("bwrap")
    if program is None:
        require.missing("bubblewrap (bwrap)", "apt-get install bubblewrap")
    spec = pod["spec"]
    container = spec["containers"][0]
    security = {**spec.get("securityContext", {}), **container.get("securityContext", {})}
    command = [program, "--die-with-parent", "--as-pid-1", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    command += ["--hostname", pod["metadata"]["name"], "--clearenv", *_environment(pod, image, address)]
    command += ["--proc", "/proc", "--dev", "/dev"]
    if not _IS_ROOT:
        uid, gid = _ids(pod)
        command += ["--unshare-user", "--uid", uid, "--gid", gid, "--cap-drop", "ALL"]
    binds = {path: path for path in _SYSTEM if Path(path).exists()} | {sys.base_prefix: sys.base_prefix}
    for inside, here in {**binds, **image.binds}.items():
        command += [*_above(inside), "--ro-bind", here, inside]
    for mount in container.get("volumeMounts", []):
        volume = next(each for each in spec["volumes"] if each["name"] == mount["name"])
        command += [
            "--perms",
            "0777",
            "--size",
            str(quantity(volume["emptyDir"]["sizeLimit"])),
            "--tmpfs",
            mount["mountPath"],
        ]
    command += ["--remount-ro", "/dev"]  # of root, and a pod is none
    command += [] if _IS_ROOT else ["--remount-ro", "/dev"]  # which is root's in a real container
    return command + (["--remount-ro", "/"] if security.get("readOnlyRootFilesystem") else [])


def _environment(pod: Pod, image: Image, address: str) -> list[str]:
    fields = {"status.podIP": address, "metadata.name": pod["metadata"]["name"]}
    fields |= {f"metadata.annotations['{key}']": value for key, value in pod["metadata"].get("annotations", {}).items()}
    found = {"PATH": "/usr/local/bin:/usr/bin:/bin", **image.env}
    for each in pod["spec"]["containers"][0].get("env", []):
        source = each.get("valueFrom")
        found[each["name"]] = each["value"] if source is None else fields[source["fieldRef"]["fieldPath"]]
    return [part for name, value in found.items() for part in ("--setenv", name, value)]


def quantity(text: str | int) -> int:
    """Read `512Mi`."""
    found = re.fullmatch(r"(\d+)([A-Za-z]*)", str(text))
    assert found, text
    return int(found[1]) * _SUFFIXES[found[2]]
