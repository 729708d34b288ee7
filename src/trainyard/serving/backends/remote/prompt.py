"""One prompt for a model elsewhere: asked whole or as a stream, its form checked, its answer repaired once."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass

from msgspec import structs

from trainyard.core import errors
from trainyard.serving.backends.remote import failures
from trainyard.serving.backends.remote.failures import AttemptFailed, Outcome
from trainyard.serving.backends.remote.forms import Check
from trainyard.serving.backends.remote.framing import Framing, TooLong
from trainyard.serving.backends.remote.upstream import Upstream
from trainyard.serving.backends.remote.wire import Filtered, Garbage, Reader, Repair, Reported, Wire
from trainyard.serving.types import Piece

_SEEDS = 2**63


@dataclass(slots=True)
class RemotePrompt:
    """Implements `Prepared` over an upstream.

    Attributes:
        prompt_tokens: An upper bound; the pieces tell what the upstream counted.
        check: Tells what is wrong with a finished text; None = any text is right.
    """

    upstream: Upstream
    wire: Wire
    prompt_tokens: int
    seed: int | None
    check: Check | None = None
    _drawn: int = 0

    @property
    def drawn(self) -> int:
        """Tokens of the answers that came; 0 before, since a whole answer is not told about while it is made."""
        return self._drawn

    @property
    def keeps_time(self) -> bool:
        """True: the deadline is the connection's."""
        return True

    @property
    def max_tokens(self) -> int:
        """Most tokens of one answer; a repaired answer takes as many again."""
        return self.wire.max_tokens if self.check is None else 2 * self.wire.max_tokens

    async def stream(self, choice: int, timeout_s: float) -> AsyncGenerator[Piece, None]:
        """Generate one answer; one that has a form comes as one piece, once it is known to keep it.

        A server that refuses to count tokens in a stream is asked without, now and from then on.
        """
        if self.check is not None:
            yield await self.collect(choice, timeout_s)
            return
        upstream, ends_at_s = self.upstream, self.upstream.now_s() + timeout_s
        asks_usage = upstream.knows_stream_options
        try:
            async with aclosing(self._open(choice, timeout_s, has_usage=asks_usage)) as made:
                async for piece in made:
                    yield piece
            return
        except errors.InvalidRequest as error:
            if not asks_usage or "stream_options" not in error.message:
                raise
        upstream.knows_stream_options = False
        async with aclosing(self._open(choice, ends_at_s - upstream.now_s(), has_usage=False)) as made:
            async for piece in made:
                yield piece

    async def collect(self, choice: int, timeout_s: float) -> Piece:
        """Generate one answer to its end."""
        if self.check is None:
            return await self._ask(choice, timeout_s, None)
        ends_at_s = self.upstream.now_s() + timeout_s
        piece = await self._ask(choice, timeout_s, None)
        if piece.finish_reason != "stop":
            return piece  # an answer that its limit cut off keeps no form, and says so
        fault = self.check(piece.text)
        if fault is None:
            return piece
        again = await self._ask(choice, ends_at_s - self.upstream.now_s(), Repair(piece.text, fault))
        still = self.check(again.text) if again.finish_reason == "stop" else None
        self.upstream.metrics.repair(self.upstream.model, has_worked=still is None)
        if still is not None:
            raise failures.failed(
                self.upstream.model,
                f"gave an answer that does not keep the form asked for, and when asked again another one: {still}",
                code="invalid_output",
            )
        return self._together(piece, again)

    async def _ask(self, choice: int, timeout_s: float, repair: Repair | None) -> Piece:
        body = self.wire.body(self._seed(choice), is_stream=False, has_usage=False, repair=repair)
        piece = await self.upstream.whole(self.wire.path, body, timeout_s, self._whole)
        self._drawn += piece.completion_tokens
        return piece

    def _whole(self, raw: bytes) -> Piece:
        try:
            return self.wire.whole(raw)
        except _FAULTS as fault:
            raise _explained(self.upstream.model, fault) from fault

    def _open(self, choice: int, timeout_s: float, *, has_usage: bool) -> AsyncGenerator[Piece, None]:
        body = self.wire.body(self._seed(choice), is_stream=True, has_usage=has_usage)
        decoder = _Pieces(self.upstream.model, self.wire.framing(), self.wire.reader())
        return self.upstream.stream(self.wire.path, body, timeout_s, decoder)

    def _together(self, first: Piece, again: Piece) -> Piece:
        """Charge both attempts; what the first did not count itself stays the bound that was reserved."""
        told = [self.prompt_tokens if one.prompt_tokens is None else one.prompt_tokens for one in (first, again)]
        drawn = first.completion_tokens + again.completion_tokens
        return structs.replace(again, prompt_tokens=sum(told), completion_tokens=drawn)

    def _seed(self, choice: int) -> int | None:
        return None if self.seed is None else (self.seed + choice) % _SEEDS


@dataclass(frozen=True, slots=True)
class _Pieces:
    """Implements `StreamDecoder`: blocks to events to pieces."""

    model: str
    framing: Framing
    reader: Reader

    @property
    def is_done(self) -> bool:
        """Whether the last event has come."""
        return self.reader.is_done

    def feed(self, block: bytes) -> Iterator[Piece]:
        """Take a block; what came before a fault is given before it is raised."""
        try:
            events = self.framing.feed(block)
        except _FAULTS as fault:
            raise _explained(self.model, fault) from fault
        for event in events:
            piece = self._push(event)
            if piece is not None:
                yield piece

    def end(self) -> list[Piece]:
        """Give the last piece."""
        left = [piece for event in self.framing.end() if (piece := self._push(event)) is not None]
        last = self.reader.end()
        if last is None:
            broken = failures.failed(self.model, "ended its answer in the middle")
            raise AttemptFailed(broken, Outcome.DROPPED)
        return [*left, last]

    def _push(self, event: bytes) -> Piece | None:
        try:
            return self.reader.push(event)
        except _FAULTS as fault:
            raise _explained(self.model, fault) from fault


_FAULTS = (Reported, Filtered, Garbage, TooLong)


def _explained(model: str, fault: Exception) -> AttemptFailed:
    """Say in our words what is wrong with an answer; `fault` is one of `_FAULTS`."""
    if isinstance(fault, Reported):
        return AttemptFailed(failures.failed(model, "reported an error in its answer"), Outcome.FAILED)
    if isinstance(fault, Filtered):
        withheld = failures.failed(model, "withheld the answer by a filter", code="upstream_filtered")
        return AttemptFailed(withheld, Outcome.REJECTED)
    return failures.garbage(model)
