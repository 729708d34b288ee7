"""Landlock, the second layer under the mounts: what may be read, run and written, by path.

Covers files, and with ABI 6 abstract unix sockets and signals beyond the box; not covered: stat and the names in a
directory (Landlock has no right for them), and sockets, which the network namespace isolates. linux/landlock.h.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Iterable
from typing import Final

from trainyard.sandbox.inside import kernel

LEAST_ABI: Final = 2
"""ABI 1 (Linux 5.13) refuses every move between directories; 2 came with 5.19."""

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_REFER: Final = 1 << 13
_TRUNCATE: Final = 1 << 14
_ALL_OF_ABI_2: Final = (1 << 14) - 1
_MAKE_DEVICES: Final = 1 << 6 | 1 << 11
"""MAKE_CHAR and MAKE_BLOCK."""
_SCOPES: Final = 1 | 2
_RULE_PATH_BENEATH: Final = 1
_CREATE_RULESET_VERSION: Final = 1


def abi() -> int:
    """Ask the kernel for its version of Landlock; 0 when it has none."""
    try:
        return kernel.landlock("create_ruleset", None, 0, _CREATE_RULESET_VERSION)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP):
            return 0
        raise


def restrict(version: int, writable: Iterable[int], devices: Iterable[str]) -> None:
    """Let this process and what it starts read everything, and write only below the given directories.

    Args:
        version: Of Landlock, `LEAST_ABI` or more.
        writable: Descriptors of directories.
        devices: Paths of files that may be written to.
    """
    handled = _ALL_OF_ABI_2 | (_TRUNCATE if version >= 3 else 0)
    attributes = struct.pack("=QQQ", handled, 0, _SCOPES) if version >= 6 else struct.pack("=Q", handled)
    ruleset = kernel.landlock("create_ruleset", attributes, len(attributes), 0)
    try:
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        _allow(ruleset, root, _EXECUTE | _READ_FILE | _READ_DIR)
        os.close(root)
        for directory in writable:
            _allow(ruleset, directory, handled & ~_MAKE_DEVICES)
        for path in devices:
            device = os.open(path, os.O_PATH | os.O_CLOEXEC)
            _allow(ruleset, device, (_READ_FILE | _WRITE_FILE | _TRUNCATE) & handled)
            os.close(device)
        kernel.landlock("restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, beneath: int, rights: int) -> None:
    rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, beneath))
    kernel.landlock("add_rule", ruleset, _RULE_PATH_BENEATH, rule, 0)
