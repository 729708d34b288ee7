"""The filter on system calls: an allow-list as a classic BPF program, which every process of a box inherits.

What is not on the list fails with EPERM; nothing is killed, so that code which tries something gets an exception. Not
covered: what an allowed call does inside the kernel. Layout and constants: linux/filter.h, linux/seccomp.h.
"""

import ctypes
import errno
import functools
import os
import socket
import struct
from collections.abc import Iterable
from typing import Final

from trainyard.sandbox.inside import kernel
from trainyard.sandbox.inside.lockdown import syscalls

AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h
_COLUMN: Final = {"x86_64": 0, "aarch64": 1}
_X32_BIT: Final = 0x40000000

_LOAD, _JUMP_EQUAL, _JUMP_GREATER, _JUMP_AT_LEAST, _JUMP_BITS, _AND, _RETURN = 0x20, 0x15, 0x25, 0x35, 0x45, 0x54, 0x06
_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_REFUSE: Final = _ERRNO | errno.EPERM
_ABSENT: Final = _ERRNO | errno.ENOSYS
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16
_SECCOMP_SET_MODE_FILTER: Final = 1

_NAMESPACES: Final = (
    kernel.CLONE_NEWNS
    | kernel.CLONE_NEWCGROUP
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUSER
    | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWNET
)
_FAMILIES: Final = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)
_SOCKET_TYPES: Final = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET)
_PROTOCOLS: Final = (0, socket.IPPROTO_TCP, socket.IPPROTO_UDP)
_SOCKET_TYPE_MASK: Final = 0xF
_TERMINAL_INPUT: Final = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX, which type into a terminal."""
_PERSONALITIES: Final = (0, 0xFFFFFFFF)
"""PER_LINUX, and the question what it is."""
_RUNNER: Final = (1,)
"""Process 1 has the user id of its code, which could take its limits, priority and processors away by this number."""
_PRIORITIES_OF: Final = (os.PRIO_PROCESS, os.PRIO_PGRP)
"""That of all processes of a user would be that of process 1 too."""
_CORE_SCHEDULING: Final = (62,)
"""PR_SCHED_CORE, which keeps other boxes off the other half of a processor core."""

Code = list[tuple[int, int, int, int]]
"""Instructions as (code, jump if true, jump if false, constant)."""


@functools.cache
def program(machine: str | None = None) -> bytes:
    """Put the filter together, as an array of `struct sock_filter`; once, so that who forks can have it ready.

    Args:
        machine: As in `uname -m`; that of this machine when left out.
    """
    name = machine or os.uname().machine
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in _instructions(name))


def install() -> None:
    """Filter the system calls of this process and of all that it starts; no_new_privs must be set."""
    code = program()
    buffer = ctypes.create_string_buffer(code, len(code))
    about = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    kernel.seccomp(_SECCOMP_SET_MODE_FILTER, 0, about)


def _instructions(machine: str) -> Code:
    column = _COLUMN[machine]
    code: Code = [
        (_LOAD, 0, 0, _ARCH_AT),
        (_JUMP_EQUAL, 1, 0, AUDIT_ARCH[machine]),
        (_RETURN, 0, 0, _REFUSE),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    if machine == "x86_64":
        code += [(_JUMP_BITS, 0, 1, _X32_BIT), (_RETURN, 0, 0, _REFUSE)]
    for first, last in _ranges(_numbers(syscalls.ALLOWED, column)):
        code += _answer_range(first, last, _ALLOW)
    for name, check in _checks().items():
        code += _when(syscalls.CHECKED[name][column], check)
    for number in _numbers(syscalls.ABSENT, column):
        code += _answer_range(number, number, _ABSENT)
    code += [(_JUMP_GREATER, 0, 1, syscalls.NEWEST), (_RETURN, 0, 0, _ABSENT)]
    return [*code, (_RETURN, 0, 0, _REFUSE)]


def _numbers(table: syscalls.Numbers, column: int) -> list[int]:
    return sorted(number for row in table.values() if (number := row[column]) is not None)


def _ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Join neighbours: (first, last) of each run of consecutive numbers."""
    found = list[tuple[int, int]]()
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def _answer_range(first: int, last: int, answer: int) -> Code:
    return [(_JUMP_AT_LEAST, 0, 2, first), (_JUMP_GREATER, 1, 0, last), (_RETURN, 0, 0, answer)]


def _when(number: int | None, check: Code) -> Code:
    """Run a check, which returns whatever it finds, for one system call."""
    return [] if number is None else [(_JUMP_EQUAL, 0, len(check), number), *check]


def _checks() -> dict[str, Code]:
    """What has to be looked at in the arguments, each a piece of code that returns."""
    sockets = [*_one_of(0, _FAMILIES), *_one_of(1, _SOCKET_TYPES, _SOCKET_TYPE_MASK), *_one_of(2, _PROTOCOLS)]
    allow: Code = [(_RETURN, 0, 0, _ALLOW)]
    others = [*_none_of(0, _RUNNER), *allow]
    return {
        "clone": [*_low_half(0), (_JUMP_BITS, 0, 1, _NAMESPACES), (_RETURN, 0, 0, _REFUSE), *allow],
        "socket": [*sockets, *allow],
        "socketpair": [*sockets, *allow],
        "ioctl": [*_none_of(1, _TERMINAL_INPUT), *allow],
        "personality": [*_one_of(0, _PERSONALITIES), *allow],
        "prctl": [*_none_of(0, _CORE_SCHEDULING), *allow],
        "prlimit64": others,
        "sched_setaffinity": others,
        "sched_setattr": others,
        "sched_setparam": others,
        "sched_setscheduler": others,
        "setpriority": [*_one_of(0, _PRIORITIES_OF), *_none_of(1, _RUNNER), *allow],
    }


def _low_half(argument: int) -> Code:
    """Load the lower 32 bits: all that the kernel looks at in these arguments (both processors are little-endian)."""
    return [(_LOAD, 0, 0, _ARGUMENTS_AT + 8 * argument)]


def _one_of(argument: int, values: Iterable[int], mask: int | None = None) -> Code:
    wanted = list(values)
    masked: Code = [] if mask is None else [(_AND, 0, 0, mask)]
    tests: Code = [(_JUMP_EQUAL, len(wanted) - at, 0, value) for at, value in enumerate(wanted)]
    return [*_low_half(argument), *masked, *tests, (_RETURN, 0, 0, _REFUSE)]


def _none_of(argument: int, values: Iterable[int]) -> Code:
    tests = list[tuple[int, int, int, int]]()
    for value in values:
        tests += [(_JUMP_EQUAL, 0, 1, value), (_RETURN, 0, 0, _REFUSE)]
    return [*_low_half(argument), *tests]
