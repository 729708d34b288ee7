"""`FakeEngine`: the engine that ships for tests, with knobs for slowness, faults and death; it loads no torch."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import TypeVar

from trainyard.core import errors
from trainyard.engine import base, calls, streams, types
from trainyard.engine.fake_core import FakeCore
from trainyard.engine.inline import InlineEngine
from trainyard.engine.switchboard import engine_away

_Answer = TypeVar("_Answer", bound=types.Message)


class FakeEngine(InlineEngine):
    """Implements `Engine` over a `FakeCore`: deterministic, honest about it (`info().architecture` is "fake").

    Losses fall by a fifth per step whatever the data; tokens are a hash of prompt, weights version, seed and position.

    Args:
        name: How the catalog calls the model.
        vocab_size: Tokens are below it.
        script: Token ids that every stream says; it then ends with its first stop token, or with length.
        latency_s: Seconds before each call is begun.
        token_s: Seconds that one decode tick takes.
        micro_step_s: Seconds that one training micro-step takes.
        max_positions: Longest prompt plus answer.
        stream_stall_s: A stream that is not read for this long is ended.
    """

    def __init__(
        self,
        name: str = "fake/model",
        *,
        vocab_size: int = 256,
        script: Sequence[int] | None = None,
        latency_s: float = 0.0,
        token_s: float = 0.0,
        micro_step_s: float = 0.0,
        max_positions: int = 4096,
        stream_stall_s: float = streams.STREAM_STALL_S,
    ) -> None:
        self.latency_s = latency_s
        self.seen: list[calls.AnyCall] = []
        self._settings = (name, vocab_size, script, token_s, micro_step_s, max_positions)
        self._failures: deque[errors.TrainyardError] = deque()
        self._tokens_to_live: int | None = None
        self._fake = self._new_core()
        super().__init__(self._fake, stream_stall_s=stream_stall_s)

    # ------------------------------------------------------------------ knobs
    def fail_next(self, error: errors.TrainyardError) -> None:
        """Let the next call (a generate counts) fail with this error; several are used up in order."""
        self._failures.append(error)

    def hold_writes(self) -> None:
        """Let steps from now on stay undurable until a save, a close, or death."""
        self._fake.holds_writes = True

    def die_after_tokens(self, tokens: int) -> None:
        """Die once that many tokens more were read from streams."""
        self._tokens_to_live = tokens

    def die(self) -> None:
        """Lose memory as `kill -9` would: what is in flight fails, runs open again at their durable step."""
        for line in self._lines.values():
            line.board.fail_all(engine_away("it was killed"))
        self._lines.clear()
        if self._compute is not None:
            self._compute.abandon()
            self._compute = None
        self._core = self._fake = self._new_core()

    # ---------------------------------------------------------------- Engine
    async def _request(self, call: calls.AnyCall, answer: type[_Answer]) -> _Answer:
        await self._before(call)
        return await super()._request(call, answer)

    def generate(self, request: types.GenerateRequest) -> AsyncIterator[types.TokenEvent]:
        """Stream tokens; closing the iterator cancels at the next tick."""
        return self._counted(request)

    async def _counted(self, request: types.GenerateRequest) -> AsyncGenerator[types.TokenEvent, None]:
        await self._before(calls.Generate(request=request))
        inner = self._tokens(request)
        try:
            async for event in inner:
                if self._tokens_to_live == 0:
                    self._tokens_to_live = None
                    self.die()
                    raise engine_away("it was killed")
                if self._tokens_to_live is not None:
                    self._tokens_to_live -= 1
                yield event
        finally:
            await inner.aclose()

    async def _before(self, call: calls.AnyCall) -> None:
        self.seen.append(call)
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        if self._failures:
            raise self._failures.popleft()

    def _new_core(self) -> FakeCore:
        name, vocab_size, script, token_s, micro_step_s, max_positions = self._settings
        return FakeCore(
            name,
            vocab_size=vocab_size,
            script=script,
            token_s=token_s,
            micro_step_s=micro_step_s,
            max_positions=max_positions,
        )


class FakeEngines:
    """Implements `Engines` over given engines, for tests."""

    def __init__(self, engines: Mapping[str, base.Engine] | None = None) -> None:
        self._engines = dict(engines or {})

    async def get(self, model: str) -> base.Engine:
        """Find the engine of a model; errors.Unavailable when none was given for it."""
        if model not in self._engines:
            raise errors.Unavailable(f"no engine runs for {model}", code="engine_starting", retry_after_s=1.0)
        return self._engines[model]

    def connected(self) -> dict[str, base.Engine]:
        """List all of them."""
        return dict(self._engines)

    async def aclose(self) -> None:
        """Close all engines."""
        for engine in self._engines.values():
            await engine.aclose()
