"""System calls that Python 3.11 has no function for, by number or through libc.

Numbers are those of arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h; calls that are newer
than 5.0 have the same number everywhere.
"""

import ctypes
import os
from typing import Final

MS_RDONLY: Final = 0x1
MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_NOEXEC: Final = 0x8
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_PRIVATE: Final = 0x40000
MNT_DETACH: Final = 2

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_SET_KEEPCAPS: Final = 8
PR_CAPBSET_DROP: Final = 24
PR_SET_SECUREBITS: Final = 28
PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4

_NUMBERS: Final = {"x86_64": {"pivot_root": 155, "seccomp": 317}, "aarch64": {"pivot_root": 41, "seccomp": 277}}
_MOUNT_SETATTR: Final = 442
_LANDLOCK: Final = {"create_ruleset": 444, "add_rule": 445, "restrict_self": 446}
_AT_FDCWD: Final = -100
_AT_RECURSIVE: Final = 0x8000
_MOUNT_ATTR_OF: Final = {MS_RDONLY: 0x1, MS_NOSUID: 0x2, MS_NODEV: 0x4, MS_NOEXEC: 0x8}  # linux/mount.h
_CAPABILITY_VERSION_3: Final = 0x20080522  # linux/capability.h

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilityData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def is_known_machine() -> bool:
    """Whether numbers of system calls are known for this processor."""
    return os.uname().machine in _NUMBERS


def mount(source: str | None, target: str, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    """Mount; raises OSError with the target in it."""
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    result = _libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3])
    _checked(result, f"mount {kind or source} on {target}")


def restrict_mounts(target: str, flags: int, *, is_recursive: bool = True) -> None:
    """Add MS_RDONLY, MS_NOSUID, MS_NODEV or MS_NOEXEC to a mount and those below it, leaving what they have."""
    bits = sum(attribute for flag, attribute in _MOUNT_ATTR_OF.items() if flags & flag)
    attributes = _MountAttributes(attr_set=bits)
    depth = _AT_RECURSIVE if is_recursive else 0
    arguments = (_AT_FDCWD, os.fsencode(target), depth, ctypes.byref(attributes), ctypes.sizeof(attributes))
    call(_MOUNT_SETATTR, *arguments, what=f"mount_setattr of {target}")


def unmount(target: str) -> None:
    """Take a tree of mounts out of the namespace; what is open in it stays usable."""
    _checked(_libc.umount2(os.fsencode(target), MNT_DETACH), f"umount {target}")


def pivot_root(new_root: str, old_root: str) -> None:
    """Make another mount the root, and hang the old one below it."""
    number = _NUMBERS[os.uname().machine]["pivot_root"]
    call(number, os.fsencode(new_root), os.fsencode(old_root), what=f"pivot_root to {new_root}")


def unshare(flags: int) -> None:
    """Leave namespaces for new ones."""
    _checked(_libc.unshare(flags), f"unshare {flags:#x}")


def prctl(option: int, value: int = 0, *more: int) -> int:
    """Operate on this process; three more arguments are 0 unless given."""
    arguments = [ctypes.c_ulong(part) for part in (value, *more, *(0,) * (3 - len(more)))]
    return _checked(_libc.prctl(option, *arguments), f"prctl {option}")


def raise_capabilities() -> None:
    """Make every capability effective that is permitted."""
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    data = (_CapabilityData * 2)()
    _checked(_libc.capget(ctypes.byref(header), data), "capget")
    for half in data:
        half.effective = half.permitted
    _checked(_libc.capset(ctypes.byref(header), data), "capset")


def drop_capabilities() -> None:
    """Have none."""
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    _checked(_libc.capset(ctypes.byref(header), (_CapabilityData * 2)()), "capset")


def seccomp(operation: int, flags: int, argument: object) -> int:
    """Operate on the filters of this process."""
    return call(_NUMBERS[os.uname().machine]["seccomp"], operation, flags, argument, what="seccomp")


def landlock(step: str, *arguments: object) -> int:
    """Call landlock_create_ruleset, landlock_add_rule or landlock_restrict_self."""
    return call(_LANDLOCK[step], *arguments, what=f"landlock_{step}")


def call(number: int, *arguments: object, what: str) -> int:
    """Make a system call; integers are passed as longs."""
    passed = [ctypes.c_long(part) if isinstance(part, int) else part for part in arguments]
    return _checked(_libc.syscall(ctypes.c_long(number), *passed), what)


def _checked(result: int, what: str) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
