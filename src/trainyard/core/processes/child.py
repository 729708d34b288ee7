"""Becomes another program that dies with its parent: `python -I -S child.py PARENT_PID PROGRAM ARGUMENT…`.

Runs by path in an isolated interpreter and imports the standard library only. PR_SET_PDEATHSIG survives execve
(prctl(2)); a parent that died before it was set is noticed by the changed parent pid.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def bind_to_parent(parent_pid: int) -> bool:
    """Have the kernel kill this process when its parent ends; false when the parent is gone already."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    return os.getppid() == parent_pid


def main(arguments: list[str]) -> None:
    """Bind and become the program; returns only when the parent is gone."""
    if bind_to_parent(int(arguments[0])):
        os.execvp(arguments[1], arguments[1:])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
