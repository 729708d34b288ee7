"""The Protocols of the backends: a `Backend` gives out boxes, a `Box` runs orders."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from trainyard.sandbox.types.orders import Dumped, Flavor, Loaded, Order, Place, Report, Usage, Variable

OnOutput = Callable[[Literal["stdout", "stderr"], bytes], None]


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of the output of a run."""

    report: Report
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of isolation.

    Attributes:
        name: `user namespace`, `seccomp`, `cgroup`, …
        is_held: Whether it holds here.
        detail: How it holds, or what it would need.
        is_required: A backend without it starts only under `sandbox.allow_weaker`.
    """

    name: str
    is_held: bool
    detail: str
    is_required: bool = True


@dataclass(frozen=True, slots=True)
class Running:
    """One box, for `sandbox ps`.

    Attributes:
        pid: Of its process 1 on the host; None where it runs elsewhere.
    """

    id: str
    pid: int | None
    flavor: Flavor
    is_taken: bool


class Box(Protocol):
    """One isolated machine with a workspace and a live interpreter; belongs to whoever took it until `close`.

    Every method but `close` raises errors.Unavailable (code `box_gone`) when the box has ended, however it did.
    """

    @property
    def id(self) -> str:
        """Names it in logs."""
        ...

    @property
    def is_alive(self) -> bool:
        """Whether it can run something."""
        ...

    @property
    def spent_cpu_s(self) -> float:
        """CPU seconds of all runs and questions so far, those whose caller has left or whose box has ended among them.

        Where the box could not tell any more, it is the wall clock, as of one processor.
        """
        ...

    async def run(self, order: Order, stdin: bytes = b"", on_output: OnOutput | None = None) -> Kept:
        """Run code to its end; a run at a time. Cancelling it kills what runs, and the interpreter is a new one."""
        ...

    async def interrupt(self) -> None:
        """Send SIGINT to what runs; the run ends by itself with `Reason.INTERRUPTED`, and its state is kept."""
        ...

    async def put(
        self, place: Place, path: str, size_bytes: int, content: AsyncIterator[bytes], *, mode: int = 0o644
    ) -> None:
        """Write a file of exactly that size, and the folders above it.

        Raises:
            errors.InvalidRequest: The path leads out of the place, or the content is not of that size.
            errors.TooLarge: The workspace is full (code `workspace_full`).
        """
        ...

    def get(self, place: Place, path: str) -> AsyncIterator[bytes]:
        """Read a regular file; raises errors.NotFound when there is none (a link is none)."""
        ...

    async def delete(self, place: Place, path: str) -> bool:
        """Remove a file; whether it existed."""
        ...

    async def accept(self) -> None:
        """Let what lies in the workspace count as known, so that later reports tell what differs from it."""
        ...

    async def variables(self) -> list[Variable]:
        """List what the code has defined."""
        ...

    async def dump(self, max_bytes: int) -> Dumped:
        """Write the variables into the spool (`state`), each by itself, so that one that cannot be is only named."""
        ...

    async def load(self) -> Loaded:
        """Restore the variables of the spool (`state`) in the interpreter."""
        ...

    async def reset(self) -> None:
        """Put a new interpreter in place of the old; files stay."""
        ...

    async def usage(self) -> Usage:
        """Measure it."""
        ...

    async def close(self) -> None:
        """End it with everything in it; a second time does nothing."""
        ...


class Backend(Protocol):
    """Gives out boxes."""

    @property
    def name(self) -> str:
        """As `sandbox.backend` has it."""
        ...

    @property
    def is_elsewhere(self) -> bool:
        """Whether boxes are made of an image, so that what they can run is theirs to tell."""
        ...

    async def start(self) -> None:
        """Begin to keep boxes ready; raises errors.StartupError where a required layer is missing."""
        ...

    async def take(self, flavor: Flavor, tenant: str) -> Box:
        """Give a fresh box to a tenant.

        Raises:
            errors.Unavailable: None can be made now (code `sandbox_unavailable`).
        """
        ...

    async def ping(self) -> None:
        """Return when boxes can be had; raises errors.Unavailable otherwise."""
        ...

    def layers(self) -> Sequence[Layer]:
        """Tell what isolates its boxes here."""
        ...

    def running(self) -> Sequence[Running]:
        """List its boxes, warm ones included."""
        ...

    async def aclose(self) -> None:
        """End every box."""
        ...
