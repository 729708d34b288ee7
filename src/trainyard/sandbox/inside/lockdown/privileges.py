"""Capabilities and what could bring them back."""

from pathlib import Path
from typing import Final

from trainyard.sandbox.inside import kernel

_NOROOT, _NO_SETUID_FIXUP, _KEEP_CAPS, _NO_AMBIENT = 1, 4, 16, 64
SECUREBITS: Final = 0b10101010 | _NOROOT | _NO_SETUID_FIXUP | _NO_AMBIENT
"""All locked (every second bit): uid 0 means nothing, and no capability can become ambient."""


def last_capability() -> int:
    """Highest capability that the kernel has."""
    return int(Path("/proc/sys/kernel/cap_last_cap").read_text())


def drop(last: int) -> None:
    """Give up every capability for good, those that a program file could bring included.

    Args:
        last: See `last_capability`; asked while /proc of the host can be read.
    """
    kernel.prctl(kernel.PR_CAP_AMBIENT, kernel.PR_CAP_AMBIENT_CLEAR_ALL)
    for capability in range(last + 1):
        kernel.prctl(kernel.PR_CAPBSET_DROP, capability)
    kernel.prctl(kernel.PR_SET_SECUREBITS, SECUREBITS)
    kernel.drop_capabilities()


def gain_none() -> None:
    """Let no program that is run from now on have more than this process."""
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
