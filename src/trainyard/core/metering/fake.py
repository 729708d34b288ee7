"""A meter without limits, for tests of services and for whoever embeds them alone."""

import asyncio
from types import TracebackType
from typing import Self

from trainyard.core.db.writer import GroupWriter, Write
from trainyard.core.metering.base import Done
from trainyard.core.metering.types import Job, Used
from trainyard.core.principal import Principal


class OpenMeter:
    """Lets everything in and keeps what was charged in lists; see `Meter`.

    Args:
        writer: Takes what has to be durable with a settlement; None = that is only kept in the charge.

    Attributes:
        opened: Every charge, in the order of their opening.
    """

    def __init__(self, writer: GroupWriter | None = None) -> None:
        self.opened: list[OpenCharge] = []
        self._writer = writer

    async def open(self, principal: Principal, job: Job) -> "OpenCharge":
        """Let in."""
        charge = OpenCharge(principal, job, self._writer)
        self.opened.append(charge)
        return charge

    async def hit(self, principal: Principal, job: Job) -> "OpenCharge":
        """Let in."""
        return await self.open(principal, job)

    def hit_at_once(self, principal: Principal, job: Job, used: Used, done: Done) -> bytes | None:
        """Let in, and say so in the next turn of the loop."""
        charge = OpenCharge(principal, job, self._writer)
        self.opened.append(charge)
        charge.used = used
        asyncio.get_running_loop().call_soon(done, None)
        return charge.lines

    @property
    def settled(self) -> list["OpenCharge"]:
        """Charges that were settled, in the order of their opening."""
        return [charge for charge in self.opened if charge.used is not None]

    @property
    def running(self) -> list["OpenCharge"]:
        """Charges that are neither settled nor refunded."""
        return [charge for charge in self.opened if charge.used is None and not charge.is_refunded]


class OpenCharge:
    """What one request was let in for and what it used; see `Charge`.

    Attributes:
        principal: Who asked.
        job: What for.
        used: None until settled.
        also: Writes that came with the settlement.
        is_refunded: Whether it was undone.
    """

    lines = b""

    def __init__(self, principal: Principal, job: Job, writer: GroupWriter | None = None) -> None:
        self.principal = principal
        self.job = job
        self.used: Used | None = None
        self.also: tuple[Write, ...] = ()
        self.is_refunded = False
        self._writer = writer

    async def settle(self, used: Used, *also: Write) -> None:
        """Keep what was used; a second end changes nothing."""
        if self.used is None and not self.is_refunded:
            self.used, self.also = used, also
            if self._writer is not None and also:
                await self._writer.write(also)

    async def refund(self) -> None:
        """Note that nobody pays; a second end changes nothing."""
        if self.used is None:
            self.is_refunded = True

    async def __aenter__(self) -> Self:
        """Begin the block in which the work is done."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Refund unless the charge was settled."""
        await self.refund()
