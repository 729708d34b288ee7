"""What code in a box is given to attack with, and how it tells what came of it."""

import os
from typing import Any, Final

from tests.contract.sandbox.backends.orders import run
from trainyard.sandbox.backends.base import Box

PRELUDE: Final = """
import ctypes, errno, fcntl, mmap, os, resource, signal, socket, struct, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(number, *arguments):
    given = [part if isinstance(part, (bytes, ctypes.Array)) else ctypes.c_long(part) for part in arguments]
    result = libc.syscall(ctypes.c_long(number), *given)
    return result if result >= 0 else errno.errorcode[ctypes.get_errno()]
def tried(action, *arguments):
    try: action(*arguments)
    except OSError as error: return errno.errorcode.get(error.errno, str(error))
    return 'done'
def links():
    found = []
    for name in os.listdir('/proc/self/fd'):
        try:
            if os.readlink(f'/proc/self/fd/{name}').startswith('socket:'): found.append(int(name))
        except OSError: pass
    return found
"""

REFUSED: Final = frozenset({"EPERM", "EACCES", "ENOSYS"})
READ_ONLY: Final = REFUSED | {"EROFS"}
ABSENT: Final = REFUSED | {"ENOENT", "ENOTDIR"}
UNREACHABLE: Final = REFUSED | {"ENETUNREACH", "EHOSTUNREACH", "ECONNREFUSED", "EADDRNOTAVAIL", "EAFNOSUPPORT"}


def number(x86: int, arm: int) -> int:
    """Number of a system call on this machine."""
    return {"x86_64": x86, "aarch64": arm}[os.uname().machine]


async def said(box: Box, code: str, **settings: Any) -> str:
    """What an attack prints; it must not raise, so that a typing error in it is no success."""
    kept = await run(box, PRELUDE + code, **settings)
    assert kept.stderr == b""
    return kept.stdout.decode().strip()


_SAY = "__import__('os').write(1, b'well\\n')"
"""Not `print`, of which an attack may have made something else, which is no matter but its own."""


async def is_well(box: Box) -> None:
    """Find the box working, in whatever state the attack has left it."""
    kept = await run(box, _SAY, timeout_s=15)
    if kept.report.was_reset and kept.stdout != b"well\n":
        kept = await run(box, _SAY, timeout_s=15)
    assert (kept.stdout, kept.report.reason) == (b"well\n", None)
