"""How every route that generates answers: cache and idempotency on the way in, the charge on the way out."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

import msgspec

from trainyard.core import errors
from trainyard.core.db.writer import Write
from trainyard.core.http import leaving
from trainyard.core.http.dialects import Dialect
from trainyard.core.http.hot import Finish, Reply, Request, Stream
from trainyard.core.idempotency import Answer, Scope, Ticket
from trainyard.core.principal import Principal
from trainyard.serving.cache import policy
from trainyard.serving.call import Call
from trainyard.serving.repeats import Name
from trainyard.serving.routes import sse
from trainyard.serving.service import ServingService
from trainyard.serving.streams import Event
from trainyard.serving.types import Ask, Choice, Piece
from trainyard.serving.work import HIT, Work

REPLAYED: Final = (b"idempotent-replayed", b"true")

_encode = msgspec.json.Encoder().encode


class Payable(Protocol):
    """Work that was let in and has to be paid for."""

    async def settle(self, *also: Write) -> None:
        """Pay, as `Work.settle`."""
        ...

    async def fail(self) -> None:
        """End it without pay; changes nothing when it was paid for."""
        ...


class Writer(Protocol):
    """Writes the events of one stream."""

    def write(self, index: int, piece: Piece) -> bytes:
        """Write what is new of one answer, as whole events."""
        ...

    def end(self) -> bytes:
        """Write what follows the last piece, without `[DONE]`; empty when nothing does."""
        ...


async def answer(
    service: ServingService,
    request: Request,
    principal: Principal,
    body: msgspec.Struct,
    ask: Ask,
    *,
    whole: Callable[[Work, Sequence[Choice]], msgspec.Struct],
    writer: Callable[[Work], Writer] | None,
    dialect: Dialect,
    cache: bool | None = None,
) -> Reply | Stream:
    """Answer a request, as a whole or as a stream.

    Args:
        service: Does the work.
        request: The request.
        principal: Who asks.
        body: As it came; under one `Idempotency-Key` it has to be the same.
        ask: What it asks for.
        whole: Writes a whole answer.
        writer: Writes a stream; None = the answer is wanted as a whole.
        dialect: In which errors in the middle of a stream are written.
        cache: What the body says about the cache.

    Raises:
        errors.TrainyardError: As `ServingService.open` and `Work.collect`; of a stream up to its first event.
        ClientDisconnect: The caller has left.
    """
    name = _name(request, principal) if writer is None else None
    call = make_call(request, principal, is_stream=writer is not None, cache=cache)

    async def make(ticket: Ticket | None) -> Reply | Stream:
        if writer is None:
            return await _whole(service, request, call, ask, whole, ticket, name)
        work = await leaving.while_connected(request, service.open(call, ask))
        return await _stream(request, work, writer(work), dialect, ticket)

    return await once(service, request, principal, body, make)


async def once(
    service: ServingService,
    request: Request,
    principal: Principal,
    body: msgspec.Struct,
    make: Callable[[Ticket | None], Awaitable[Reply | Stream]],
) -> Reply | Stream:
    """Make an answer, or give the one that the request had under its `Idempotency-Key`.

    Args:
        service: Remembers keys.
        request: The request.
        principal: Who asks.
        body: As it came; under one key it has to be the same.
        make: Makes the answer, and writes it down by `settled` with the ticket that it is given.

    Raises:
        errors.TrainyardError: As `Idempotency.begin` and `make`.
    """
    key = request.header(b"idempotency-key")
    if key is None:
        return await make(None)
    ticket = await _claim(service, request, principal, body, key)
    if isinstance(ticket, Answer):
        return replayed(ticket)
    try:
        return await make(ticket)
    except errors.TrainyardError as error:
        await ticket.release(error)
        raise
    except BaseException:
        await ticket.release()
        raise


def make_call(request: Request, principal: Principal, *, is_stream: bool, cache: bool | None) -> Call:
    """Say who asks, by which way."""
    wish = request.headers.get(b"cache-control")
    wanted = policy.DEFAULT if wish is None and cache is None else policy.read(_text(wish), cache)
    return Call(principal, request.route, request.request_id, wanted, is_stream, request.note)


async def _claim(
    service: ServingService, request: Request, principal: Principal, body: msgspec.Struct, key: str
) -> Answer | Ticket:
    """Look whether the request was answered under its `Idempotency-Key`.

    Raises:
        errors.TrainyardError: As `Idempotency.begin`.
    """
    if service.idempotency is None:
        raise errors.InvalidRequest(
            "This server remembers no keys; leave Idempotency-Key out",
            code="unsupported_parameter",
            param="Idempotency-Key",
        )
    scope = Scope(principal.tenant, request.route, key, principal.user)
    return await leaving.while_connected(request, service.idempotency.begin(scope, _encode(body)))


def replayed(kept: Answer) -> Reply | Stream:
    """Give an answer again as it was given first."""
    if not kept.is_stream:
        return Reply(kept.body, [REPLAYED], kept.status)
    return Stream(_once(kept.body), [REPLAYED])


async def settled(work: Payable, content: bytes, ticket: Ticket | None, *, is_stream: bool = False) -> None:
    """Pay for an answer and, under a key, write it down in the same transaction.

    Raises:
        errors.Unavailable: Nothing was charged; the answer must not go out.
    """
    if ticket is None:
        await work.settle()
        return
    kept = Answer(200, content, is_stream)
    try:
        write = await ticket.finishing(kept)
    except errors.TrainyardError:
        await work.fail()
        raise
    try:
        await work.settle(write)
    except asyncio.CancelledError:
        ticket.leave()  # what was begun is charged all the same
        raise
    ticket.done(kept)


async def _whole(
    service: ServingService,
    request: Request,
    call: Call,
    ask: Ask,
    write: Callable[[Work, Sequence[Choice]], msgspec.Struct],
    ticket: Ticket | None,
    name: Name | None,
) -> Reply:
    async def make() -> tuple[Work, list[Choice]]:
        work = await service.open(call, ask)
        return work, await work.collect()

    work, choices = await leaving.while_connected(request, make())
    try:
        content = _encode(write(work, choices))
        await settled(work, content, ticket)
    except BaseException:
        await work.fail()  # changes nothing when it was paid for
        raise
    if name is not None and (hit := service.repeating.hit(work)) is not None:
        service.repeating.known.keep(name, hit, content)
    return Reply(content, lines=work.lines)


def _name(request: Request, principal: Principal) -> Name | None:
    """Name a request by its bytes; None when headers say something about its answer too."""
    if not request.raw or b"cache-control" in request.headers or b"idempotency-key" in request.headers:
        return None
    return principal.tenant, request.route, request.raw


def again(service: ServingService, request: Request, principal: Principal, finish: Finish) -> bool:
    """Answer a request that was a hit before, when it still is one; see `hot.Again`."""
    name, repeating = _name(request, principal), service.repeating
    known = None if name is None else repeating.known.find(name)
    if name is None or known is None:
        return False
    hit, written = known
    if not repeating.holds(principal, hit):
        repeating.known.drop(name)
        return False

    lines: bytes | None = None

    def done(error: Exception | None) -> None:
        repeating.end(hit, request.began_s, is_paid=error is None)
        if error is None:
            request.notes, request.noted = hit.notes, hit.noted
            finish(Reply(written.again(service.clock), lines=(lines or b"") + HIT))
        else:
            request.notes = {**hit.notes, "outcome": "failed"}
            finish(error)

    lines = repeating.let_in(principal, request.route, request.request_id, hit, request.began_s, done)
    return lines is not None


async def _stream(request: Request, work: Work, writer: Writer, dialect: Dialect, ticket: Ticket | None) -> Stream:
    """Begin to generate; errors until the first event, or for the first heartbeat's time, are answers with a status."""
    try:
        first = await leaving.while_connected(request, work.take())
    except errors.TrainyardError:
        await work.fail()
        raise
    except BaseException:
        await work.leave()
        raise
    return Stream(Frames(request, work, writer, dialect, ticket, first), lines=work.lines)


class Frames(AsyncGenerator[bytes, None]):
    """The bytes of one stream; closing it before its end is the caller's leaving.

    No generator function, since one that was never begun would do nothing when it is closed.
    """

    def __init__(
        self,
        request: Request,
        work: Work,
        writer: Writer,
        dialect: Dialect,
        ticket: Ticket | None,
        first: Sequence[Event] | None,
    ) -> None:
        self._request, self._work, self._writer, self._dialect = request, work, writer, dialect
        self._ticket = ticket
        self._kept: list[bytes] = []
        self._next: Sequence[Event] | None = first
        self._has_first = True
        self._has_text = False
        self._is_over = False

    async def asend(self, _value: None) -> bytes:
        """Give the next bytes; the last ones come once the answer is paid for."""
        if self._is_over:
            raise StopAsyncIteration
        try:
            return await self._frame()
        except errors.TrainyardError as error:
            self._is_over = True
            await self._work.fail(delivered=self._has_text)
            await self._release(error)
            return sse.failure(error, self._request.request_id, self._dialect)
        except BaseException:
            await self.aclose()
            raise

    async def athrow(self, *_error: Any) -> bytes:
        """End it: whoever throws something in has left."""
        await self.aclose()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End it; before the end this stops the work and charges what was drawn."""
        if not self._is_over:
            self._is_over = True
            await self._work.leave()
            await self._release(None)

    async def _frame(self) -> bytes:
        while True:
            events = self._next if self._has_first else await self._work.take()
            self._has_first, self._next = False, None
            if events is None:
                return await self._last()
            if not events:
                return sse.HEARTBEAT
            frame = b"".join([self._writer.write(index, piece) for index, piece in events])
            if frame:
                self._has_text = True
                if self._ticket is not None:
                    self._kept.append(frame)
                return frame

    async def _last(self) -> bytes:
        frame = self._writer.end() + sse.DONE
        await settled(self._work, b"".join(self._kept) + frame, self._ticket, is_stream=True)
        self._is_over = True
        return frame

    async def _release(self, error: errors.TrainyardError | None) -> None:
        if self._ticket is not None:
            await self._ticket.release(error)


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode("latin-1")
