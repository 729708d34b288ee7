"""What the supervisor is told about a child, and what it tells."""

import enum
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

START_TIMEOUT_S: Final = 600.0
"""A child that is not ready by then is killed and counts as crashed; large models load for minutes."""

CONFIG_EXIT: Final = 78
"""EX_CONFIG of sysexits.h: a child that ends so cannot succeed by being started again."""


class ChildState(enum.StrEnum):
    """Where a child is in its life."""

    IDLE = "idle"  # not asked for yet
    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting"  # crashed; starts again after the back-off
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"  # crash loop or hopeless; stays so


SETTLED: Final = frozenset({ChildState.READY, ChildState.FAILED, ChildState.STOPPED})
"""States that starting leads to."""


@dataclass(frozen=True, kw_only=True)
class ChildSpec:
    """One process to keep running.

    Attributes:
        argv: Program and arguments; never a secret, since every user of the machine can read them.
        env: The whole environment; None = that of the supervisor.
        stdin: Written to the child's standard input, which is then closed.
        ready: Asked every 50 ms until true; None = ready as soon as it runs.
        essential: The service as a whole has failed when this child has.
        log: File that standard output and error are appended to, kept small by `logs`; None = those of the supervisor.
        pass_fds: Descriptors that the child inherits.
        grace_s: Seconds between SIGTERM and SIGKILL.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] | None = None
    stdin: bytes = b""
    ready: Callable[[], Awaitable[bool]] | None = None
    essential: bool = False
    log: Path | None = None
    pass_fds: tuple[int, ...] = ()
    grace_s: float = 30.0
    start_timeout_s: float = START_TIMEOUT_S


class ChildStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A child at one moment.

    Attributes:
        restarts: Times that it was started again after a crash.
        reason: Why it is not running, or why it was started last; empty when nothing happened.
    """

    name: str
    state: ChildState
    pid: int | None
    restarts: int
    essential: bool
    reason: str = ""
