"""The Meter Protocol: let in, do the work, settle. Services see nothing else of limits and ledger."""

from collections.abc import Sequence
from typing import Protocol

from trainyard.core.db.writer import Write
from trainyard.core.metering.types import Job, Used
from trainyard.core.principal import Principal


class Charge(Protocol):
    """One request that was let in. Exactly one of `settle` and `refund` has to follow; a second one changes nothing."""

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """`x-ratelimit-*` and IETF `RateLimit` headers of the answer; empty when nothing is limited."""
        ...

    async def settle(self, used: Used, *also: Write) -> None:
        """Charge what was used; durable together with `also`, in one transaction, when this returns.

        Raises:
            errors.Unavailable: Code `ledger_unavailable`: it could be written nowhere; nothing was charged.
        """
        ...

    async def refund(self) -> None:
        """Undo the reservation; the work failed and nobody pays for it."""
        ...


class Meter(Protocol):
    """Lets work in by the limits and quotas of the caller's key and tenant."""

    async def open(self, principal: Principal, job: Job) -> Charge:
        """Reserve; raises as `Limiter.reserve`."""
        ...
