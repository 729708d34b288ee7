"""No new connections: a second filter on system calls that lets code open unix sockets only.

It holds whatever the cluster's network plugin makes of a NetworkPolicy. Not covered: the one connection to the server,
which the runner keeps to itself. Constants: linux/filter.h, linux/seccomp.h, linux/audit.h.
"""

import ctypes
import errno
import os
import socket
import struct
from typing import Final

from trainyard.sandbox.inside import kernel

_SOCKET_CALL: Final = {"x86_64": 41, "aarch64": 198}
_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER_AT, _FIRST_ARGUMENT_AT = 0, 16
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_SET_MODE_FILTER: Final = 1


def shut() -> None:
    """Refuse every socket but unix ones (EAFNOSUPPORT), to this process and all that it starts.

    What listens already goes on to accept. `lockdown.seccomp` has to follow: it refuses the calls of other
    architectures, and the other ways to a socket.
    """
    instructions = [
        (_LOAD, 0, 0, _NUMBER_AT),
        (_JUMP_EQUAL, 0, 3, _SOCKET_CALL[os.uname().machine]),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
        (_JUMP_EQUAL, 1, 0, socket.AF_UNIX),
        (_RETURN, 0, 0, _ERRNO | errno.EAFNOSUPPORT),
        (_RETURN, 0, 0, _ALLOW),
    ]
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
    buffer = ctypes.create_string_buffer(code, len(code))
    kernel.seccomp(_SET_MODE_FILTER, 0, struct.pack("@HP", len(instructions), ctypes.addressof(buffer)))
