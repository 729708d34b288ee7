"""Callers that leave at any step whatsoever: nothing stays held, and the ledger has what was told, once."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from starlette.requests import ClientDisconnect

from tests.unit.serving.yard import Yard
from trainyard.core import errors
from trainyard.core.clock import FakeClock
from trainyard.core.db.writer import Wake, Write
from trainyard.core.http import leaving
from trainyard.core.http.hot import HotRoute, Request, Stream
from trainyard.core.ledger.types import Entry
from trainyard.core.limits.memory import MemoryLimiter
from trainyard.core.limits.types import Amount, Limits, Subject
from trainyard.core.metering.service import Metering
from trainyard.core.principal import Principal
from trainyard.core.telemetry import Metrics
from trainyard.engine.fake import FakeEngines
from trainyard.serving.cache.answers import Answers
from trainyard.serving.cache.base import Kept
from trainyard.serving.cache.memory import MemoryCache
from trainyard.serving.routes import native, openai
from trainyard.serving.service import ServingService
from trainyard.serving.types import Ask, EmbedAsk, Piece, Target, Vectors

PROMPT, WORDS = 7, 5
"""Tokens of a prompt, and of an answer, of the model below."""

STEPS = 45
"""More than any request here takes of the event loop."""


async def a_moment() -> None:
    await asyncio.sleep(0)


@dataclass
class SlowPrompt:
    """Draws one token per step of the loop."""

    prompt_tokens: int = PROMPT
    max_tokens: int = WORDS
    fails_after: int | None = None
    model: str | None = None
    drawn: int = 0
    keeps_time: bool = False

    async def stream(self, choice: int, timeout_s: float) -> AsyncGenerator[Piece, None]:
        for count in range(1, WORDS + 1):
            await a_moment()
            if self.fails_after == 0:
                raise ZeroDivisionError
            if self.fails_after is not None and count > self.fails_after:
                raise errors.Unavailable("The engine is gone", code="engine_restarting")
            self.drawn += 1
            finish = "stop" if count == WORDS else None
            yield Piece(text="a", finish_reason=finish, completion_tokens=count, model=self.model)  # type: ignore[arg-type]

    async def collect(self, choice: int, timeout_s: float) -> Piece:
        async with aclosing(self.stream(choice, timeout_s)) as made:
            pieces = [piece async for piece in made]
        return msgspec.structs.replace(pieces[-1], text="aaaaa")


class SlowBackend:
    """Takes a step of the loop for everything."""

    async def prepare(self, target: Target, ask: Ask) -> Sequence[SlowPrompt]:
        await a_moment()
        fails_after = 2 if ask.prompts == ["fails"] else 0 if ask.prompts == ["breaks"] else None
        model = "yard/plain" if ask.prompts == ["falls back"] else None
        return [SlowPrompt(fails_after=fails_after, model=model) for _ in ask.prompts]

    async def count(self, target: Target, ask: EmbedAsk) -> int:
        await a_moment()
        return PROMPT * len(ask.inputs)

    async def embed(self, target: Target, ask: EmbedAsk, timeout_s: float) -> Vectors:
        await a_moment()
        if ask.inputs == ["long"]:
            await asyncio.sleep(60)
        await a_moment()
        return Vectors(vectors=[[1.0] for _ in ask.inputs], prompt_tokens=PROMPT * len(ask.inputs), version="base")


class SlowShelf:
    """A shared cache that is empty, and slow to say so."""

    def may_hold(self, key: bytes) -> bool:
        return True

    async def get(self, key: bytes) -> bytes | None:
        await a_moment()
        return None

    async def put(self, answers: Sequence[Kept]) -> None:
        await a_moment()

    async def tend(self) -> None:
        await a_moment()

    async def aclose(self) -> None:
        await a_moment()


@dataclass
class SlowLedger:
    """Has written an entry three steps after it was given."""

    entries: dict[str, Entry] = field(default_factory=dict)

    def submit(self, entry: Entry, also: Sequence[Write] = ()) -> asyncio.Future[bool]:
        loop = asyncio.get_running_loop()
        written: asyncio.Future[bool] = loop.create_future()

        def write(left: int) -> None:
            if left:
                loop.call_soon(write, left - 1)
                return
            self.entries.setdefault(entry.entry_id, entry)
            if not written.done():
                written.set_result(True)

        write(3)
        return written

    def submit_then(self, entry: Entry, wake: Wake) -> None:
        self.submit(entry).add_done_callback(lambda written: wake(written.result()))


@dataclass
class Line:
    """The connection of a client, which leaves when it is told to."""

    has_left: bool = False
    _leaves: list[Callable[[], object]] = field(default_factory=list)

    def call_when_gone(self, leave: Callable[[], object]) -> None:
        self._leaves.append(leave)
        if self.has_left:
            asyncio.get_running_loop().call_soon(self.hang_up)

    def forget(self, leave: Callable[[], object]) -> None:
        if leave in self._leaves:
            self._leaves.remove(leave)

    def hang_up(self) -> None:
        self.has_left = True
        for leave in list(self._leaves):
            leave()


class Counter:
    """Requests over the real meter and the real limiter of one process."""

    def __init__(self, yard: Yard, clock: FakeClock) -> None:
        self.metrics, self.ledger, self.yard, self.clock = Metrics(), SlowLedger(), yard, clock
        self.limiter = MemoryLimiter(self._spent, clock, window_s=60.0)
        self.meter = Metering(self.limiter, self.ledger, self._subjects, clock, self.metrics, window_s=60.0)
        self.renew()

    def renew(self, timeout_s: float = 60.0) -> None:
        """Forget all answers."""
        answers = Answers(MemoryCache(1 << 20, 60.0, self.clock), SlowShelf(), self.clock, Metrics())
        service = ServingService(
            self.yard.models,
            SlowBackend(),
            FakeEngines({}),
            self.yard.adapters,
            self.meter,
            self.clock,
            answers=answers,
            timeout_s=timeout_s,
        )
        self.routes: dict[str, HotRoute] = {
            route.path: route for route in [*native.hot_routes(service), *openai.hot_routes(service)]
        }

    async def _spent(self, subject: str, since: float, until: float) -> Amount:
        await a_moment()
        return Amount()

    def _subjects(self, who: Principal) -> Sequence[Subject]:
        bars = Limits(requests=10**6, tokens=10**9, concurrency=1000)
        return Subject(f"key:{who.key_id}", bars), Subject(f"tenant:{who.tenant}", bars)

    @property
    def running(self) -> float:
        """Open reservations, as the metrics say."""
        return self.metrics.registry.get_sample_value("trainyard_open_reservations") or 0.0

    @property
    def holds_nothing(self) -> bool:
        """Whether neither the metrics nor any counter of the limiter know of work that runs."""
        accounts = self.limiter._accounts.values()
        return self.running == 0 and not any(one.running or one.held_tokens for one in accounts)

    async def ask(self, path: str, body: dict[str, Any], line: Line, name: str) -> bytes:
        """Serve one request as the door does; returns what was sent."""
        route = self.routes[path]
        raw = msgspec.json.encode(body)
        request = Request(
            {leaving.WIRE: line}, _never, headers={}, request_id=name, route=path, began_s=self.clock.monotonic()
        )
        request.raw = raw
        who = Principal("lab", "ada", "key_a", frozenset({"generate"}))
        answer = await route.handler(request, route.decoder.decode(raw), who)
        if not isinstance(answer, Stream):
            assert isinstance(answer.body, bytes)  # type: ignore[union-attr]
            return answer.body  # type: ignore[union-attr]
        sent: list[bytes] = []

        async def pump() -> None:
            async for event in answer.events:
                await a_moment()  # the network
                sent.append(event)

        async with aclosing(answer.events):
            await leaving.while_connected(request, pump())
        return b"".join(sent)


async def _never() -> Any:
    await asyncio.Event().wait()


CHAT = {"messages": [{"role": "user", "content": "hi"}]}
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "drawn by chance": ("/v1/generate", {"prompt": "hi", "temperature": 1.0}),
    "a miss": ("/v1/generate", {"prompt": "hi", "temperature": 0}),
    "a stream": ("/v1/stream", {"prompt": "hi", "temperature": 1.0}),
    "a stream that is a miss": ("/v1/stream", {"prompt": "hi", "temperature": 0}),
    "a batch": ("/v1/generate/batch", {"prompts": ["hi", "ho", "hi"], "temperature": 0}),
    "a batch by chance": ("/v1/generate/batch", {"prompts": ["hi", "ho", "hi"], "temperature": 1.0}),
    "two choices": ("/v1/chat/completions", {**CHAT, "n": 2}),
    "two choices in a stream": (
        "/v1/chat/completions",
        {**CHAT, "n": 2, "stream": True, "stream_options": {"include_usage": True}},
    ),
    "two prompts": ("/v1/completions", {"prompt": ["hi", "ho"], "temperature": 0}),
    "vectors": ("/v1/embeddings", {"input": ["hi", "ho"]}),
    "one that fails": ("/v1/generate", {"prompt": "fails", "temperature": 0}),
    "a stream that fails": ("/v1/stream", {"prompt": "fails", "temperature": 1.0}),
}


async def settle_down(counter: Counter) -> None:
    for _ in range(60):
        await a_moment()
    await counter.meter.aclose()


@pytest.fixture
def counter(yard: Yard, clock: FakeClock) -> Counter:
    return Counter(yard, clock)


@pytest.mark.parametrize("how", ["the client leaves", "the task is cancelled"])
@pytest.mark.parametrize("kind", REQUESTS)
async def test_leaving_at_any_step_leaves_nothing_held_and_at_most_one_entry(
    counter: Counter, kind: str, how: str
) -> None:
    path, body = REQUESTS[kind]
    lefts = 0
    for step in range(STEPS):
        counter.renew()
        line, name = Line(), f"req_{step}"
        asking = asyncio.create_task(counter.ask(path, body, line, name))
        for _ in range(step):
            await a_moment()
        was_let_in = counter.running == 1
        line.hang_up() if how == "the client leaves" else asking.cancel()
        outcome = (await asyncio.gather(asking, return_exceptions=True))[0]
        await settle_down(counter)
        entries = [entry for entry in counter.ledger.entries.values() if entry.request_id == name]
        assert counter.holds_nothing, step
        assert len(entries) <= 1
        if (was_let_in or isinstance(outcome, bytes)) and "fails" not in kind:
            assert len(entries) == 1, step
            assert entries[0].charged_tokens >= PROMPT
        lefts += isinstance(outcome, ClientDisconnect | asyncio.CancelledError)
    assert lefts > 3


PAIRS = {
    "two equal ones": ("a miss", "a miss"),
    "a stream and a whole": ("a stream that is a miss", "a miss"),
    "a whole and a stream": ("a miss", "a stream that is a miss"),
    "two streams": ("a stream that is a miss", "a stream that is a miss"),
    "a batch and one of its prompts": ("a batch", "a miss"),
    "one and a batch with its prompt": ("a miss", "a batch"),
    "two batches": ("a batch", "a batch"),
}


@pytest.mark.parametrize("pair", PAIRS)
async def test_equal_requests_may_both_leave_at_any_step(counter: Counter, pair: str) -> None:
    for first, second in itertools.product(range(0, 36, 2), range(0, 40, 5)):
        counter.renew()
        lines = [Line(), Line()]
        names = [f"req_{first}_{second}_{who}" for who in "ab"]
        asking = [
            asyncio.create_task(counter.ask(*REQUESTS[kind], line, name))
            for kind, line, name in zip(PAIRS[pair], lines, names, strict=True)
        ]
        for step in range(41):
            if step == first:
                lines[0].hang_up()
            if step == second and second < 36:
                lines[1].hang_up()
            await a_moment()
        outcomes = await asyncio.gather(*asking, return_exceptions=True)
        await settle_down(counter)
        assert counter.holds_nothing, (first, second)
        for name, outcome in zip(names, outcomes, strict=True):
            entries = [entry for entry in counter.ledger.entries.values() if entry.request_id == name]
            assert len(entries) <= 1
            assert isinstance(outcome, bytes | ClientDisconnect), (first, second, outcome)
            if isinstance(outcome, bytes):
                assert [entry.outcome for entry in entries] == ["done"]


@pytest.mark.parametrize("kind", REQUESTS)
async def test_a_server_that_stops_while_somebody_leaves_holds_nothing_either(counter: Counter, kind: str) -> None:
    path, body = REQUESTS[kind]
    for step, again in itertools.product(range(30), range(1, 6, 2)):
        counter.renew()
        line, name = Line(), f"req_{step}_{again}"
        asking = asyncio.create_task(counter.ask(path, body, line, name))
        for _ in range(step):
            await a_moment()
        was_let_in = counter.running == 1
        line.hang_up()
        for _ in range(again):
            await a_moment()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await settle_down(counter)
        assert counter.holds_nothing, (step, again)
        entries = [entry for entry in counter.ledger.entries.values() if entry.request_id == name]
        assert len(entries) == 1 or "fails" in kind or not was_let_in, (step, again)


async def test_a_fault_of_our_own_is_not_charged(counter: Counter) -> None:
    with pytest.raises(ZeroDivisionError):
        await counter.ask("/v1/generate", {"prompt": "breaks", "temperature": 1.0}, Line(), "req_1")
    await settle_down(counter)
    assert counter.holds_nothing
    assert counter.ledger.entries == {}


async def test_vectors_that_take_too_long_are_not_charged(counter: Counter) -> None:
    counter.renew(timeout_s=0.01)
    with pytest.raises(errors.DeadlineExceeded):
        await counter.ask("/v1/embeddings", {"input": ["long"]}, Line(), "req_1")
    await settle_down(counter)
    assert counter.holds_nothing
    assert counter.ledger.entries == {}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/generate", {"prompt": "falls back", "temperature": 0}),
        ("/v1/stream", {"prompt": "falls back", "temperature": 1}),
        ("/v1/completions", {"prompt": "falls back"}),
        ("/v1/generate/batch", {"prompts": ["falls back"]}),
    ],
)
async def test_the_ledger_names_the_model_that_the_answer_names(
    counter: Counter, path: str, body: dict[str, Any]
) -> None:
    assert b'"model":"yard/plain"' in await counter.ask(path, body, Line(), "req_1")
    assert [entry.model for entry in counter.ledger.entries.values()] == ["yard/plain"]


@pytest.mark.parametrize("kind", ["a miss", "a stream", "a batch", "vectors"])
async def test_the_ledger_counts_seconds_from_the_arrival(counter: Counter, kind: str) -> None:
    asking = asyncio.create_task(counter.ask(*REQUESTS[kind], Line(), "req_1"))
    await a_moment()
    assert counter.running == 0  # its prompts are being counted
    counter.clock.advance(2)
    await asking
    assert [entry.seconds for entry in counter.ledger.entries.values()] == [2.0]


def told(answer: bytes) -> tuple[list[dict[str, Any]], bool]:
    """Find everything that an answer tells of tokens, by prompt if it is a batch; and whether it is one."""
    bodies = [line.removeprefix(b"data: ") for line in answer.split(b"\n\n") if line not in (b"", b"data: [DONE]")]
    last = msgspec.json.decode(bodies[-1])
    return (last["results"], True) if "results" in last else ([last["usage"]], False)


@pytest.mark.parametrize(
    "kind", ["a stream that is a miss", "a batch", "two choices in a stream", "two prompts", "vectors", "two choices"]
)
async def test_an_answer_tells_what_the_ledger_has_also_when_it_joined_or_is_a_hit(counter: Counter, kind: str) -> None:
    path, body = REQUESTS[kind]
    both = await asyncio.gather(*[counter.ask(path, body, Line(), name) for name in ("req_1", "req_2")])
    third = await counter.ask(path, body, Line(), "req_3")
    for name, answer in zip(("req_1", "req_2", "req_3"), [*both, third], strict=True):
        (entry,) = [entry for entry in counter.ledger.entries.values() if entry.request_id == name]
        parts, is_batch = told(answer)
        tokens = [(part["prompt_tokens"], part.get("completion_tokens", 0)) for part in parts]
        assert (entry.prompt_tokens, entry.completion_tokens) == tuple(map(sum, zip(*tokens, strict=True)))
        if is_batch:
            charged = sum(sum(one) for part, one in zip(parts, tokens, strict=True) if not part["cached"])
        else:
            details = parts[0].get("prompt_tokens_details", parts[0])
            assert entry.cached_tokens == details.get("cached_tokens", 0)
            charged = 0 if entry.cached else sum(map(sum, tokens))
        assert entry.charged_tokens == charged
