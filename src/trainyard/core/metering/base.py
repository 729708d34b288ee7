"""The Meter Protocol: let in, do the work, settle. Services see nothing else of limits and ledger."""

from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from trainyard.core.db.writer import Write
from trainyard.core.metering.types import Job, Used
from trainyard.core.principal import Principal

Done = Callable[[Exception | None], None]


class Charge(Protocol):
    """One request that was let in. Exactly one of `settle` and `refund` has to follow; a second one changes nothing.

    Whoever opens a charge holds it in `async with`: a block that is left without either, by a fault or because its task
    was cancelled, refunds. Nothing else does: a charge that is dropped outside of a block keeps its reservation.

        async with await meter.open(principal, job) as charge:
            answer = await work()
            await charge.settle(Used(...))
    """

    @property
    def lines(self) -> bytes:
        """`x-ratelimit-*` and IETF `RateLimit` headers of the answer as `head_lines`; empty when nothing is limited."""
        ...

    async def settle(self, used: Used, *also: Write) -> None:
        """Charge what was used; durable together with `also`, in one transaction, when this returns.

        Cancelling it does not undo it: the entry is written and the reservation ends, only nobody waits for it.

        Args:
            used: As the answer says it.
            also: Have to do no harm when they run late or twice: while the database is away they wait in a file.

        Raises:
            errors.Unavailable: Code `ledger_unavailable`: it could be written nowhere; nothing was charged.
        """
        ...

    async def refund(self) -> None:
        """Undo the reservation; the work failed and nobody pays for it."""
        ...

    async def __aenter__(self) -> Self:
        """Begin the block in which the work is done."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Refund unless the charge was settled."""
        ...


class Meter(Protocol):
    """Lets work in by the limits and quotas of the caller's key and tenant."""

    async def open(self, principal: Principal, job: Job) -> Charge:
        """Reserve; raises as `Limiter.reserve`."""
        ...

    async def hit(self, principal: Principal, job: Job) -> Charge:
        """Let a request in whose answer is there already, a `cached` job: nothing is held while it goes out.

        Raises as `Limiter.count`.
        """
        ...

    def hit_at_once(self, principal: Principal, job: Job, used: Used, done: Done) -> bytes | None:
        """Do as `hit` and `settle` without waiting: count a `cached` job and begin to write it down.

        Args:
            principal: Who asks.
            job: What for.
            used: As the answer says it.
            done: Called later, once: with None when the entry is durable, else with the reason why nothing is charged.

        Returns:
            Headers of the answer as `head_lines`; None, and nothing has happened, where it is refused or cannot be done
            at once.
        """
        ...
