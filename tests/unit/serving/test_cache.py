"""The cache without HTTP: what an answer depends on, bounds, wishes, and a shared part that fails."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from trainyard.core import errors
from trainyard.core.clock import FakeClock
from trainyard.core.telemetry import Metrics
from trainyard.engine.types import Grammar
from trainyard.serving.cache import answers as answering
from trainyard.serving.cache import entry as entries
from trainyard.serving.cache import keys, policy
from trainyard.serving.cache.answers import Answers
from trainyard.serving.cache.base import Kept
from trainyard.serving.cache.entry import Entry
from trainyard.serving.cache.memory import OVERHEAD_BYTES, MemoryCache
from trainyard.serving.cache.policy import Policy
from trainyard.serving.types import Ask, Chat, Piece, Target, TokenInfo, Tool, ToolDelta

TARGET = Target("yard/bytes", "yard/bytes", revision="r1")
ASK = Ask(model="yard/bytes", prompts=["hi"], param="prompt", default_max_tokens=256)

MATTERS: dict[str, Any] = {
    "prompts": ["ho"],
    "n": 2,
    "max_tokens": 9,
    "default_max_tokens": 16,
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 4,
    "min_p": 0.1,
    "presence_penalty": 0.1,
    "frequency_penalty": 0.1,
    "stop": ("x",),
    "seed": 1,
    "logprobs": 0,
    "form": Grammar(kind="regex", text="a"),
    "tool_choice": "required",
    "parallel_tool_calls": False,
}
MATTERS_NOT: dict[str, Any] = {"model": "yard/alias", "param": "messages", "end_user": "ann"}


def key(ask: Ask = ASK, tenant: str = "default", target: Target = TARGET) -> bytes:
    return keys.key_of(tenant, target, ask, target.revision)


def test_every_field_of_a_request_either_matters_or_is_known_not_to() -> None:
    assert set(Ask.__struct_fields__) == {*MATTERS, *MATTERS_NOT}


@pytest.mark.parametrize("name", MATTERS)
def test_a_parameter_that_matters_changes_the_key(name: str) -> None:
    changed: dict[str, Any] = {name: MATTERS[name]}
    assert key(structs.replace(ASK, **changed)) != key()


@pytest.mark.parametrize("name", MATTERS_NOT)
def test_what_does_not_matter_does_not(name: str) -> None:
    changed: dict[str, Any] = {name: MATTERS_NOT[name]}
    assert key(structs.replace(ASK, **changed)) == key()


def test_any_two_different_requests_have_different_keys() -> None:
    """Over all subsets that 2,000 draws find; a request is known by the set of its changes."""
    draws, seen = random.Random(7), dict[bytes, frozenset[str]]()
    for _ in range(2000):
        names = frozenset(draws.sample(list(MATTERS), draws.randrange(len(MATTERS))))
        ask = structs.replace(ASK, **{name: MATTERS[name] for name in names})
        says = names - {"default_max_tokens"} if "max_tokens" in names else names
        assert seen.setdefault(key(ask), says) == says
    assert len(seen) == len(set(seen.values())) > 1000


def test_a_length_that_is_named_makes_the_dialects_default_irrelevant() -> None:
    named = structs.replace(ASK, max_tokens=9)
    assert key(named) == key(structs.replace(named, default_max_tokens=16))


@pytest.mark.parametrize(
    "prompt",
    ["", "hi ", [104, 105], [], Chat([]), Chat([{"role": "user", "content": "hi"}]), Chat([{"role": "user"}])],
)
def test_every_form_of_prompt_is_its_own(prompt: Any) -> None:
    assert key(structs.replace(ASK, prompts=[prompt])) != key()


def test_prompts_are_told_apart_by_where_they_end() -> None:
    assert key(structs.replace(ASK, prompts=["ab", "c"])) != key(structs.replace(ASK, prompts=["a", "bc"]))


def test_tools_count() -> None:
    plain = Chat([{"role": "user", "content": "hi"}])
    for tool in (Tool("f", "d", {}), Tool("f", "e", {}), Tool("f", "d", {"type": "object"})):
        assert key(structs.replace(ASK, prompts=[replace(plain, tools=[tool])])) != key(
            structs.replace(ASK, prompts=[plain])
        )


def test_tenant_model_and_revision_count() -> None:
    others = [
        key(tenant="elsewhere"),
        key(target=replace(TARGET, name="yard/other")),
        key(target=replace(TARGET, revision="r2")),
    ]
    assert len({key(), *others}) == 4


# ---------------------------------------------------------------- entries
PIECE = Piece(
    text="a",
    tokens=(TokenInfo(b"\xff", -0.5, ((b"a", -0.1),)),),
    tool_calls=(ToolDelta(0, "call_1", "f", "{}"),),
    finish_reason="tool_calls",
    completion_tokens=1,
)


def test_an_entry_comes_back_as_it_was() -> None:
    made = Entry((PIECE,), 3, 1, 5.0)
    found = entries.decode(entries.encode(made))
    assert found == made
    assert found is not None
    assert (found.usage.prompt_tokens, found.usage.cached_tokens) == (3, 3)


@pytest.mark.parametrize("raw", [b"", b"\x91", b"nonsense", entries.encode(Entry((PIECE,), 3, 1, 5.0, format=99))])
def test_an_entry_of_another_version_is_a_miss(raw: bytes) -> None:
    assert entries.decode(raw) is None


# ---------------------------------------------------------------- memory
def test_memory_is_never_over_its_bytes_and_counts_them_exactly() -> None:
    clock, draws = FakeClock(), random.Random(3)
    cache, model = MemoryCache(20_000, 50.0, clock), dict[bytes, tuple[bytes, float]]()
    for _ in range(3000):
        name = bytes([draws.randrange(60)])
        if draws.random() < 0.5:
            model[name] = (bytes(draws.randrange(3000)), clock.now())
            cache.put(name, *model[name])
        elif (found := cache.get(name)) is not None:
            assert found == model[name][0]
            assert clock.now() - model[name][1] < 50.0
        clock.advance(draws.random())
        held = sum(len(raw) + OVERHEAD_BYTES for raw, _ in cache._entries.values())
        assert cache.bytes_held == held <= 20_000
    assert len(cache) > 3


def test_the_least_recently_used_goes_first(clock: FakeClock) -> None:
    cache = MemoryCache(3 * (100 + OVERHEAD_BYTES), 50.0, clock)
    for name in (b"a", b"b", b"c"):
        cache.put(name, bytes(100), clock.now())
    cache.get(b"a")
    cache.put(b"d", bytes(100), clock.now())
    assert [cache.get(name) is not None for name in (b"a", b"b", b"c", b"d")] == [True, False, True, True]


def test_what_is_larger_than_the_memory_is_not_kept(clock: FakeClock) -> None:
    cache = MemoryCache(1000, 50.0, clock)
    cache.put(b"a", bytes(10), clock.now())
    cache.put(b"b", bytes(1000), clock.now())
    assert (cache.get(b"a") is not None, cache.get(b"b")) == (True, None)
    assert MemoryCache(0, 50.0, clock).get(b"a") is None


# ---------------------------------------------------------------- wishes
@pytest.mark.parametrize(
    ("header", "wish", "expected"),
    [
        (None, None, policy.DEFAULT),
        (None, True, Policy(is_asked=True)),
        (None, False, policy.NEVER),
        ("no-store", True, policy.NEVER),
        ("No-Store, no-cache", None, policy.NEVER),
        ("no-cache", None, Policy(reads=False)),
        ("no-cache", True, Policy(reads=False, is_asked=True)),
        ("no-cache", False, Policy(reads=False)),
        ("max-age=60", None, Policy(is_asked=True, max_age_s=60.0)),
        ('private, max-age="5"', None, Policy(is_asked=True, max_age_s=5.0)),
        ("max-age=0", None, Policy(reads=False, is_asked=True, max_age_s=0.0)),
        ("max-age=60", False, policy.NEVER),
        ("only-private", None, policy.DEFAULT),
        ("", True, Policy(is_asked=True)),
    ],
)
def test_wishes_are_read(header: str | None, wish: bool | None, expected: Policy) -> None:
    assert policy.read(header, wish) == expected


@pytest.mark.parametrize("age", ["max-age=", "max-age=-1", "max-age=1.5", "max-age=9999999999"])
def test_an_age_is_a_number_of_seconds(age: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="max-age"):
        policy.read(age)


@pytest.mark.parametrize(("temperature", "seed", "is_so"), [(0.0, None, True), (1.0, None, False), (1.0, 0, True)])
def test_greedy_and_seeded_requests_are_deterministic(temperature: float, seed: int | None, is_so: bool) -> None:
    assert policy.is_deterministic(structs.replace(ASK, temperature=temperature, seed=seed)) is is_so


# ---------------------------------------------------------------- the shared part
class FailingCache:
    """A `SharedCache` of a dict that can be away; it counts what it is asked."""

    def __init__(self) -> None:
        self.held: dict[bytes, bytes] = {}
        self.is_away = False
        self.asked: list[str] = []

    def may_hold(self, key: bytes) -> bool:
        return True

    async def get(self, key: bytes) -> bytes | None:
        self._ask("get")
        return self.held.get(key)

    async def put(self, answers: Sequence[Kept]) -> None:
        self._ask(f"put {len(answers)}")
        self.held |= {one.key: one.answer for one in answers}

    async def tend(self) -> None:
        self._ask("tend")

    async def aclose(self) -> None:
        self.asked.append("close")

    def _ask(self, call: str) -> None:
        self.asked.append(call)
        if self.is_away:
            raise errors.Unavailable("away", code="cache_unavailable")


def made(at: float) -> Entry:
    return Entry((PIECE,), 3, 1, at)


def new_answers(clock: FakeClock, shared: FailingCache | None) -> Answers:
    return Answers(MemoryCache(100_000, 50.0, clock), shared, clock, Metrics())


async def test_what_is_shared_is_found_and_then_in_memory(clock: FakeClock) -> None:
    shared = FailingCache()
    one, other = new_answers(clock, shared), new_answers(clock, shared)
    one.keep(b"k", "default", made(clock.now()))
    await one.flush()
    assert other.recent(b"k") is None
    assert await other.find(b"k") == made(clock.now())
    assert other.recent(b"k") == made(clock.now())


async def test_a_shared_answer_that_is_too_old_for_the_caller_is_a_miss(clock: FakeClock) -> None:
    shared = FailingCache()
    shared.held[b"k"] = entries.encode(made(clock.now() - 20))
    assert await new_answers(clock, shared).find(b"k", max_age_s=10) is None
    assert await new_answers(clock, shared).find(b"k", max_age_s=30) is not None


async def test_a_shared_cache_that_fails_is_a_miss_and_is_left_alone_for_a_moment(clock: FakeClock) -> None:
    shared, metrics = FailingCache(), Metrics()
    answers = Answers(MemoryCache(100_000, 50.0, clock), shared, clock, metrics)
    shared.is_away = True
    assert [await answers.find(b"k") for _ in range(3)] == [None] * 3
    answers.keep(b"k", "default", made(clock.now()))
    await answers.flush()
    assert shared.asked == ["get", "put 1"]
    assert answers.recent(b"k") is not None
    clock.advance(answering.PAUSE_S)
    await answers.find(b"other")
    assert shared.asked[-1] == "get"
    shown = metrics.render()[0].decode()
    assert 'trainyard_cache_shared_failures_total{call="get"} 2.0' in shown
    assert 'trainyard_cache_shared_failures_total{call="put"} 1.0' in shown


async def test_what_waits_to_be_shared_is_bounded(clock: FakeClock) -> None:
    shared, metrics = FailingCache(), Metrics()
    answers = Answers(MemoryCache(1 << 20, 50.0, clock), shared, clock, metrics)
    for number in range(answering.MAX_WAITING + 5):
        answers.keep(number.to_bytes(4), "default", made(clock.now()))
    await answers.flush()
    assert len(shared.held) == answering.MAX_WAITING
    assert "trainyard_cache_dropped_total 5.0" in metrics.render()[0].decode()


async def test_the_background_writes_and_tends_and_closing_writes_the_rest(clock: FakeClock) -> None:
    shared = FailingCache()
    answers = new_answers(clock, shared)
    await answers.start()
    await answers.start()  # once is enough
    answers.keep(b"k", "default", made(clock.now()))
    for _ in range(5):
        await asyncio.sleep(0)
    assert sorted(shared.asked) == ["put 1", "tend"]
    answers.keep(b"l", "default", made(clock.now()))
    await answers.aclose()
    assert shared.asked[-2:] == ["put 1", "close"]


async def test_a_cache_that_cannot_be_tended_is_tried_again(clock: FakeClock) -> None:
    shared = FailingCache()
    shared.is_away = True
    answers = new_answers(clock, shared)
    await answers.start()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert shared.asked == ["tend"]
    await answers.aclose()


def test_a_request_has_only_fields_with_a_default_or_a_meaning() -> None:
    required = {field.name for field in structs.fields(Ask) if field.required}
    assert required == {"model", "prompts", "param", "default_max_tokens"}
