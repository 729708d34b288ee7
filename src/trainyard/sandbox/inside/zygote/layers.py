"""Which layers of isolation this machine has, found out by trying each in a process that is thrown away."""

import functools
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from trainyard.sandbox.inside import kernel
from trainyard.sandbox.inside.lockdown import landlock, privileges, seccomp
from trainyard.sandbox.inside.zygote import identity, namespaces
from trainyard.sandbox.inside.zygote.birth import Protection
from trainyard.sandbox.inside.zygote.cgroups import Home

NAMESPACE_FILES: Final = {
    "user": "user", "mount": "mnt", "pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup",
}  # fmt: skip
"""Below /proc/self/ns, by the names that layers have."""
_COUNTS_PER_NAMESPACE: Final = (5, 14)
_OBSTACLES: Final = {
    "kernel.unprivileged_userns_clone": ("0", "set sysctl kernel.unprivileged_userns_clone=1"),
    "kernel.apparmor_restrict_unprivileged_userns": (
        "1",
        "give the interpreter an AppArmor profile with the rule `userns,`, or set sysctl "
        "kernel.apparmor_restrict_unprivileged_userns=0",
    ),
}
"""Of ordinary users."""
_MOST: Final = "user.max_user_namespaces"
_CONTAINER: Final = "run outside of a container, or let the container make namespaces (CAP_SYS_ADMIN, or a seccomp \
profile that allows unshare and mount)"


@dataclass(frozen=True)
class Layer:
    """One layer; the fields are those of `backends.base.Layer`."""

    name: str
    is_held: bool
    detail: str
    is_required: bool = True

    def plain(self) -> dict[str, object]:
        """Give it as JSON has it."""
        return asdict(self)


def protection(host_id: int | None) -> tuple[Protection, list[Layer]]:
    """Try the layers that do not need the private root.

    Args:
        host_id: A user id of boxes, when this process is root.
    """
    failures = _try_namespaces(host_id)
    found = abilities(host_id, frozenset(name for name, number in failures.items() if number == 0))
    return found, [*(_namespace(name, number) for name, number in failures.items()), *lockdown(found, host_id)]


def abilities(host_id: int | None, names: frozenset[str]) -> Protection:
    """Try what a box does to itself, in namespaces of these names."""
    return Protection(
        namespaces=names,
        landlock_abi=landlock.abi(),
        has_seccomp=_has_seccomp(),
        counts_processes=host_id is not None or _kernel() >= _COUNTS_PER_NAMESPACE,
        last_capability=privileges.last_capability(),
    )


def lockdown(found: Protection, host_id: int | None) -> list[Layer]:
    """Tell about what a box does to itself, whoever has made its namespaces."""
    has_seccomp, counts = found.has_seccomp, found.counts_processes
    return [
        _user(host_id),
        Layer(
            "seccomp", has_seccomp, "allow-list" if has_seccomp else "needs CONFIG_SECCOMP_FILTER on x86-64 or arm64"
        ),
        Layer("rlimits", counts, "held" if counts else "processes of one user are counted together before Linux 5.14"),
        _landlock(found.landlock_abi),
    ]


def cgroup(home: Home | None) -> Layer:
    """Tell about control groups."""
    if home is None:
        detail = "none that can be written: the runner watches memory and processes of its box instead; as an ordinary \
user, start the server in a systemd unit with Delegate=yes"
        return Layer("cgroup", False, detail, is_required=False)
    return Layer("cgroup", True, f"v{home.version} below {home.place}", is_required=False)


def root(failure: str | None) -> Layer:
    """Tell about the private root, from the making of a whole box."""
    return Layer("private root", failure is None, failure or "read-only, with a /proc of its own")


def packages(site_packages: str | None, failure: str | None) -> Layer:
    """Tell about the packages that code can import."""
    found = failure or site_packages or "none: code has the standard library; `trainyard sandbox setup` installs more"
    return Layer("packages", site_packages is not None and failure is None, found, is_required=False)


def _namespace(name: str, number: int) -> Layer:
    if number == 0:
        return Layer(f"{name} namespace", True, "own")
    return Layer(f"{name} namespace", False, f"{os.strerror(number)}: {_advice()}")


def _advice() -> str:
    if _sysctl(_MOST) == "0":
        return f"raise sysctl {_MOST}"
    for name, (bad, advice) in _OBSTACLES.items():
        if os.getuid() != 0 and _sysctl(name) == bad:
            return advice
    return _CONTAINER


def _sysctl(name: str) -> str | None:
    file = Path("/proc/sys", *name.split("."))
    return file.read_text().strip() if file.exists() else None


def _user(host_id: int | None) -> Layer:
    if host_id is not None:
        return Layer("own user id", True, f"from {host_id} up, one per box")
    if os.getuid() == 0:
        detail = "this container does not have the ids of sandbox.first_uid, so boxes would be its root: map them, or "
        return Layer("own user id", False, f"{detail}start the server as an ordinary user")
    detail = f"boxes are user {os.getuid()} of this machine, as the server is; as root each has an id of its own"
    return Layer("own user id", False, detail, is_required=False)


def _landlock(version: int) -> Layer:
    held = version >= landlock.LEAST_ABI
    detail = f"ABI {version}" if held else "needs Linux 5.19 with `landlock` among its security modules"
    return Layer("landlock", held, detail, is_required=False)


def _try_namespaces(host_id: int | None) -> dict[str, int]:
    """Error number by namespace; 0 = it can be had."""
    failures = dict[str, int]()
    for name in namespaces.NAMESPACES:
        wanted = frozenset({name, "user"} if failures.get("user", 0) == 0 else {name})
        failures[name] = _errno_of(functools.partial(_leave, wanted, host_id))
    return failures


def _leave(names: frozenset[str], host_id: int | None) -> None:
    if host_id is not None:
        identity.become(host_id)
    namespaces.leave(names)


def _has_seccomp() -> bool:
    if not kernel.is_known_machine():
        return False
    seccomp.program()  # kept, so that boxes find it ready
    return _errno_of(_try_seccomp) == 0


def _try_seccomp() -> None:
    privileges.gain_none()
    seccomp.install()


def _errno_of(action: Callable[[], None]) -> int:
    """Run something in a process of its own; gives the number of the OSError that it raised, or 0."""
    pid = os.fork()
    if pid == 0:
        number = 255
        try:
            action()
            number = 0
        except OSError as error:
            number = error.errno or number
        finally:
            os._exit(number)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _kernel() -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    assert found is not None
    return int(found[1]), int(found[2])
