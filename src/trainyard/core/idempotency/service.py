"""Doing a request once, however often it is sent under one key."""

import asyncio
import hashlib
import secrets
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, Final

import structlog

from trainyard.core import errors
from trainyard.core.clock import Clock
from trainyard.core.db import Database
from trainyard.core.db.writer import Write
from trainyard.core.idempotency import store, types
from trainyard.core.idempotency.store import IdempotencyStore, Row
from trainyard.core.idempotency.types import Answer, Scope

LEASE_S: Final = 30.0
"""A holder that did not renew for this long is taken for dead. Clocks of several hosts have to agree within a third."""

_RENEW_S: Final = LEASE_S / 3
_MARGIN_S: Final = LEASE_S / 6
_POLL_S: Final = 0.25
_SWEEP_S: Final = 60.0

_log = structlog.get_logger("idempotency")


class Ticket:
    """The right to do a request under its key; exactly one of `done`, `leave` and `release` ends it.

    Attributes:
        body_hash: Of its body.
    """

    def __init__(self, idempotency: "Idempotency", row: Row) -> None:
        self.row = row
        self._idempotency = idempotency
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: list[asyncio.Future[Answer | None]] = []
        self._is_lost = False
        self._is_being_written = False

    @property
    def body_hash(self) -> str:
        """Of its body."""
        return self.row.body_hash

    async def finishing(self, answer: Answer) -> Write:
        """Make the write that has to be in the transaction of the charge.

        Raises:
            errors.Unavailable: Code `idempotency_lost`: this process stood still for so long that another one may have
                taken the request over; nothing may be charged here.
        """
        if self._idempotency.clock.now() > self.row.lease_until - _MARGIN_S:
            await self.renew()
        if self._is_lost:
            raise errors.Unavailable(
                "This server was held up and another one may do the request; send it again",
                code="idempotency_lost",
                retry_after_s=1,
            )
        return store.finish(replace(self.row, answer=types.encode(answer)))

    def done(self, answer: Answer) -> None:
        """The answer is durable; whoever waits in this process gets it."""
        self._end()
        for one in self._waiting:
            if not one.done():
                one.set_result(answer)

    async def release(self, error: errors.TrainyardError | None = None) -> None:
        """Nothing was charged, or the caller left: the next request of this key is done anew.

        Args:
            error: What those get who wait in this process; None lets the first of them try.
        """
        if self._is_being_written:
            return
        if error is None:
            self.drop()
        else:
            self._end()
            for one in self._waiting:
                if not one.done():
                    one.set_exception(_again(error))
                    one.exception()  # whoever waited may have left
        try:
            await self._idempotency.released(self.row)
        except errors.Unavailable as away:
            _log.warning("idempotency_not_released", reason=away.message)  # its lease will end

    def leave(self) -> None:
        """Whoever writes the answer down was left alone with it: it is charged, so the key is not free.

        Those who ask from now on find the answer in its row; or, if it could not be written, the lease ends.
        """
        self._is_being_written = True
        self.drop()

    def drop(self) -> None:
        """Another process has the key; those who wait in this one ask by themselves."""
        self._end()
        for one in self._waiting:
            if not one.done():
                one.set_result(None)

    def renew_later(self) -> None:
        """Hold on to the key for as long as the work takes."""
        self._timer = asyncio.get_running_loop().call_later(_RENEW_S, self._begin_renewing)

    async def renew(self) -> None:
        """Hold on to the key now; a database that is away is asked again before the lease ends."""
        until = self._idempotency.clock.now() + LEASE_S
        try:
            held = await self._idempotency.renewed(self.row, until)
        except errors.Unavailable:
            self._is_lost = self._idempotency.clock.now() > self.row.lease_until - _MARGIN_S
            return
        self._is_lost = not held
        self.row = replace(self.row, lease_until=until)

    async def wait(self) -> Answer | None:
        """Wait for what becomes of it; None when it was given up.

        Raises:
            errors.TrainyardError: What became of it, in this process.
        """
        future: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        return await future

    def _begin_renewing(self) -> None:
        self._idempotency.spawn(self._renewing())

    async def _renewing(self) -> None:
        await self.renew()
        if self._timer is not None and not self._is_lost:
            self.renew_later()

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._idempotency.forget(self)


class Idempotency:
    """Finds out whether a request was done, is being done, or is to be done now.

    Args:
        database: Where keys and answers are.
        clock: For leases and expiry.
        ttl_s: How long an answer is remembered.
    """

    def __init__(self, database: Database, clock: Clock, *, ttl_s: float) -> None:
        self.clock = clock
        self._database = database
        self._store = IdempotencyStore(database)
        self._ttl_s = ttl_s
        self._holder = secrets.token_hex(8)
        self._local: dict[Scope, Ticket] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._swept_at = clock.now()

    async def begin(self, scope: Scope, body: bytes) -> Answer | Ticket:
        """Claim a key, or wait for whoever holds it.

        Args:
            scope: The key.
            body: What the request is; another one under the same key is refused.

        Raises:
            errors.Conflict: Code `idempotency_key_reused`: the key stands for another request.
            errors.Unavailable: The database is away.
            errors.TrainyardError: What became of the equal request that ran in this process.
        """
        types.check_key(scope.key)
        body_hash = hashlib.sha256(body).hexdigest()
        while True:
            mine = self._local.get(scope)
            if mine is None:
                found = await self._claim(scope, body_hash)
                if found is not None:
                    return found
                await asyncio.sleep(_POLL_S)
                continue
            if mine.body_hash != body_hash:
                raise _reused()
            answer = await mine.wait()
            if answer is not None:
                return answer

    async def aclose(self) -> None:
        """Wait for what was begun in the background."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ------------------------------------------------------------------ for tickets
    async def renewed(self, row: Row, until: float) -> bool:
        """Hold on to a row; false when it was taken over."""
        return await self._database.call(self._store.renew, row.scope, row.holder, until)

    async def released(self, row: Row) -> None:
        """Let go of a row."""
        await self._database.call(self._store.release, row.scope, row.holder)

    def forget(self, ticket: Ticket) -> None:
        """A ticket has ended."""
        if self._local.get(ticket.row.scope) is ticket:
            del self._local[ticket.row.scope]

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something in the background."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ------------------------------------------------------------------ inside
    async def _claim(self, scope: Scope, body_hash: str) -> Answer | Ticket | None:
        now = self.clock.now()
        holder = f"{self._holder}{secrets.token_hex(8)}"
        ticket = Ticket(self, Row(scope, body_hash, holder, now + LEASE_S, now, now + self._ttl_s))
        self._local[scope] = ticket
        claiming = asyncio.ensure_future(self._database.call(self._store.claim, ticket.row))
        try:
            found = await asyncio.shield(claiming)
        except BaseException:
            self.spawn(self._let_go(ticket, claiming))
            raise
        self._sweep(now)
        if found.holder == holder:
            ticket.renew_later()
            return ticket
        ticket.drop()
        if found.body_hash != body_hash:
            raise _reused()
        return None if found.answer is None else types.decode(found.answer)

    async def _let_go(self, ticket: Ticket, claiming: asyncio.Future[Row]) -> None:
        """Free a key whose claim nobody waits for any more, once it is known to have happened or not."""
        await asyncio.wait([claiming])
        await ticket.release()

    def _sweep(self, now: float) -> None:
        if now - self._swept_at >= _SWEEP_S:
            self._swept_at = now
            self.spawn(self._sweeping(now))

    async def _sweeping(self, now: float) -> None:
        try:
            await self._database.call(self._store.sweep, now)
        except errors.Unavailable as away:
            _log.warning("idempotency_not_swept", reason=away.message)


def _reused() -> errors.Conflict:
    return errors.Conflict(
        "This Idempotency-Key stands for another request; choose a new key for a new request",
        code="idempotency_key_reused",
        param="Idempotency-Key",
    )


def _again(error: errors.TrainyardError) -> errors.TrainyardError:
    return type(error)(
        error.message, code=error.code, param=error.param, retry_after_s=error.retry_after_s, data=error.data
    )
