"""From the start of a pod to its runner."""

import importlib
import os
import signal
import site
import sys
from pathlib import Path
from typing import Final

from trainyard.sandbox.inside import runner
from trainyard.sandbox.inside.lockdown import limits, privileges, seccomp
from trainyard.sandbox.inside.pod import network, surroundings
from trainyard.sandbox.inside.pod.listening import Door

WORKSPACE, SPOOL, SCRATCH, SHARED = "/mnt/data", "/spool", "/tmp", "/dev/shm"  # noqa: S108 - mounts of this pod alone
_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io")
_CAPABILITIES: Final = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


class TooWeak(Exception):
    """The pod is not locked down as its manifest asks."""


def main() -> None:
    """Serve one server, and end."""
    signal.signal(signal.SIGTERM, _end)  # process 1 would not notice it otherwise
    given = surroundings.take(os.environ)
    environ = {**runner.ENVIRON, "PATH": given.path}
    os.environ.clear()
    os.environ.update(environ)
    for add_builtins in (site.setquit, site.setcopyright, site.sethelper):  # what -S leaves out
        add_builtins()
    sys.path += given.libraries
    for name in ("cloudpickle", *given.preload):
        importlib.import_module(name)
    _check_pod()
    door = Door(given.host, given.port, given.token)
    privileges.gain_none()
    limits.apply(given.limits, counts_processes=True)  # by a user id that no other pod has
    if not given.has_sockets:
        network.shut()
    seccomp.install()  # the last: it refuses further filters
    control = door.wait()
    runner.main(
        control.detach(),
        WORKSPACE,
        SPOOL,
        scratch=SCRATCH,
        mounts=(WORKSPACE, SPOOL, SCRATCH, SHARED),
        libraries=given.libraries,
        environ=environ,
        state_bytes=given.limits.state_bytes,
    )


def _check_pod() -> None:
    """Look whether the cluster has kept to the manifest, before anybody's code is here.

    Raises:
        TooWeak: This process is root, has a capability, or can write where it should not.
    """
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    if held := [name for name in _CAPABILITIES if int(status[name], 16)]:
        raise TooWeak(f"this process has capabilities ({', '.join(held)}); drop ALL")
    if os.getuid() == 0:
        raise TooWeak("this process is root; set runAsUser")
    if not os.statvfs("/").f_flag & os.ST_RDONLY:
        raise TooWeak("the root can be written; set readOnlyRootFilesystem")
    if _ACCOUNT.exists():
        raise TooWeak(f"{_ACCOUNT} is there; set automountServiceAccountToken: false")


def _end(signum: int, frame: object) -> None:
    os._exit(128 + signum)
