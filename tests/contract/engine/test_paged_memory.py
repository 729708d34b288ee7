"""Pages: what is shared, evicted or taken away changes nothing that a stream says, and memory keeps its bound."""

import random
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from tests.contract.engine import tiny_models as tiny
from tests.contract.engine.test_sampler import drain, prompt, tokens, train_a_step
from trainyard.core import errors
from trainyard.engine import types
from trainyard.engine.core import EngineCore

PAGE = 32
PAGE_BYTES = 3 * 2 * 2 * PAGE * 8 * 4
"""Three layers, keys and values, two heads of eight numbers in float32."""


@pytest.fixture(scope="module", params=["llama", "mistral_window"])
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_random(request.param, tmp_path_factory.mktemp("model"))


def make(directory: Path, pages: int = 64) -> EngineCore:
    return EngineCore(directory, "tiny", kv_max_bytes=pages * PAGE_BYTES)


@pytest.fixture
def core(directory: Path) -> EngineCore:
    return make(directory)


def request(
    name: str,
    ids: list[int],
    max_tokens: int = 12,
    *,
    scope: str | None = "tenant",
    run: str | None = None,
    **settings: object,
) -> types.GenerateRequest:
    sampling = types.Sampling(max_tokens=max_tokens, **({"temperature": 0.0, "logprobs": 96} | settings))  # type: ignore[arg-type]
    return types.GenerateRequest(
        stream_id=name, prompt=types.int32(ids), sampling=sampling, run_id=run, prefix_scope=scope
    )


def one(core: EngineCore, wanted: types.GenerateRequest) -> list[types.TokenEvent]:
    core.admit(wanted)
    return drain(core)[wanted.stream_id]


def assert_same(got: list[types.TokenEvent], expected: list[types.TokenEvent]) -> None:
    """Same tokens, and every logit (as a log-probability) within 1e-4."""
    assert tokens(got) == tokens(expected)
    for mine, theirs in zip(got, expected, strict=True):
        ours, wanted = dict(mine.top), dict(theirs.top)
        assert [ours[i] for i in sorted(ours)] == pytest.approx([wanted[i] for i in sorted(wanted)], abs=1e-4)


@pytest.mark.parametrize(
    ("length", "cached"), [(31, 0), (32, 0), (33, 32), (64, 32), (65, 64), (100, 96)], ids=lambda v: str(v)
)
def test_a_beginning_that_was_computed_is_found_but_for_the_last_token(
    core: EngineCore, length: int, cached: int
) -> None:
    first, second = (one(core, request(name, prompt(length))) for name in "ab")
    assert (first[0].cached_tokens, second[0].cached_tokens) == (0, cached)
    assert_same(second, first)
    assert all(event.cached_tokens == 0 for event in second[1:])
    stats = core.stats()
    assert (stats.prefix_hit_tokens, stats.prompt_tokens) == (cached, 2 * length)


def test_the_next_turn_of_a_chat_finds_the_answer_too(core: EngineCore) -> None:
    first = one(core, request("a", prompt(50), 30))
    turn = prompt(50) + tokens(first) + prompt(20, seed=3)
    second = one(core, request("b", turn))
    assert second[0].cached_tokens == 64  # 50 + 29 tokens were computed, two pages of them full
    assert_same(second, one(core, request("c", turn, scope=None)))


def test_a_text_that_differs_in_one_token_shares_the_pages_before_it(core: EngineCore) -> None:
    one(core, request("a", prompt(100)))
    other = prompt(100)
    other[40] = (other[40] + 1) % tiny.VOCAB
    got = one(core, request("b", other))
    assert got[0].cached_tokens == 32
    assert_same(got, one(core, request("c", other, scope=None)))


@pytest.mark.parametrize(("first", "second"), [("x", "y"), (None, "x"), ("x", None), (None, None)])
def test_scopes_share_nothing_and_none_does_not_share_with_itself(
    core: EngineCore, first: str | None, second: str | None
) -> None:
    one(core, request("a", prompt(90), scope=first))
    assert one(core, request("b", prompt(90), scope=second))[0].cached_tokens == 0


def test_weights_share_nothing_and_a_step_frees_what_the_old_ones_computed(core: EngineCore, tmp_path: Path) -> None:
    core.open_run(tiny.run_spec("run_a", tmp_path / "run"))
    train_a_step(core, "run_a", 1)
    one(core, request("base", prompt(90)))
    assert one(core, request("a", prompt(90), run="run_a"))[0].cached_tokens == 0
    assert one(core, request("b", prompt(90), run="run_a"))[0].cached_tokens == 64
    held = core.stats().kv_bytes
    train_a_step(core, "run_a", 2)
    new = one(core, request("c", prompt(90), run="run_a"))
    assert new[0].cached_tokens == 0
    assert_same(new, one(core, request("d", prompt(90), run="run_a", scope=None)))
    assert core.stats().kv_bytes == held  # as many pages of the new step as there were of the old
    core.close_run("run_a")
    one(core, request("e", prompt(5)))
    assert core.stats().kv_bytes == held // 2


def test_prompt_logprobs_are_computed_and_not_found(core: EngineCore) -> None:
    first = one(core, request("a", prompt(90), prompt_logprobs=True))
    second = one(core, request("b", prompt(90), prompt_logprobs=True))
    assert second[0].cached_tokens == 0
    assert types.read_float32(second[0].prompt_logprobs)[1:] == pytest.approx(
        types.read_float32(first[0].prompt_logprobs)[1:], abs=1e-4
    )
    assert one(core, request("c", prompt(90)))[0].cached_tokens == 64


def test_equal_prompts_that_arrive_together_are_read_once(core: EngineCore) -> None:
    for name in "abcd":
        core.admit(request(name, prompt(100), temperature=1.0, seed=ord(name)))
    found = {name: events[0].cached_tokens for name, events in drain(core).items()}
    assert found == {"a": 0, "b": 96, "c": 96, "d": 96}
    assert core.stats().prefix_hit_tokens == 3 * 96


def test_the_least_recently_used_beginning_leaves_and_its_end_before_its_head(directory: Path) -> None:
    core = make(directory, pages=8)
    one(core, request("old", prompt(97, seed=1), 1))  # three full pages and one that goes
    one(core, request("new", prompt(97, seed=2), 1))
    assert core.stats().kv_bytes == 6 * PAGE_BYTES
    one(core, request("third", prompt(97, seed=3), 1))  # four pages, two of them free: two of the oldest go
    assert one(core, request("new2", prompt(97, seed=2), 1))[0].cached_tokens == 96
    assert one(core, request("old2", prompt(97, seed=1), 1))[0].cached_tokens == 32


def test_a_stream_that_cannot_grow_gives_way_and_says_the_same_later(directory: Path) -> None:
    roomy, tight = make(directory), make(directory, pages=8)
    wanted = [request(f"s{i}", prompt(40, seed=i), 100, temperature=1.0, seed=i) for i in range(4)]
    expected = {each.stream_id: one(roomy, each) for each in wanted}
    for each in wanted:
        tight.admit(each)
    has_given_way, got = False, defaultdict(list)
    while tight.has_streams:
        for name, event in tight.tick():
            got[name].append(event)
        stats = tight.stats()
        assert stats.kv_bytes <= stats.kv_max_bytes == 8 * PAGE_BYTES
        has_given_way |= len(got) == 4 and stats.queued_streams > 0
    assert has_given_way
    for name, events in expected.items():
        assert_same(got[name], events)


def test_one_long_stream_in_the_smallest_memory_ends_at_its_bound(directory: Path) -> None:
    core = make(directory, pages=2)
    events = one(core, request("a", prompt(40), 100))
    assert len(events) == 24  # as at the end of the context: 64 - 40
    assert events[-1].finish == "length"
    with pytest.raises(errors.InvalidRequest, match="kv_max_bytes only 64") as refused:
        core.admit(request("b", prompt(65)))
    assert refused.value.code == "context_length_exceeded"


def test_memory_for_less_than_two_pages_is_refused(directory: Path) -> None:
    with pytest.raises(errors.ConfigError, match="less than two pages"):
        EngineCore(directory, "tiny", kv_max_bytes=2 * PAGE_BYTES - 1)


def test_parked_streams_hold_no_place_and_give_their_pages_to_who_waits(directory: Path) -> None:
    core = make(directory, pages=8)
    roomy = make(directory)
    core._sampler._max_streams = 2
    for name in "ab":
        core.admit(request(name, prompt(70, seed=ord(name)), 50))
    got = defaultdict(list)
    for _ in range(5):
        for name, event in core.tick():
            got[name].append(event)
    core.admit(request("c", prompt(120), 20))
    parked = frozenset("ab")
    for _ in range(40):
        for name, event in core.tick(parked):
            got[name].append(event)
    assert len(got["c"]) == 20
    assert [len(got[name]) for name in "ab"] == [5, 5]
    for name, events in drain(core).items():
        got[name] += events
    for name in "ab":
        assert_same(got[name], one(roomy, request(name, prompt(70, seed=ord(name)), 50)))


def test_one_stream_more_than_may_wait_is_refused_and_told_when_to_come(directory: Path) -> None:
    core = EngineCore(directory, "tiny", max_queue=2)
    core._sampler._max_streams = 3
    for i in range(5):
        core.admit(request(f"s{i}", prompt(5 + i), 6))
    with pytest.raises(errors.Unavailable) as refused:
        core.admit(request("more", prompt(5)))
    assert refused.value.code == "engine_overloaded"
    assert refused.value.retry_after_s is not None
    assert (core.stats().active_streams, core.stats().queued_streams) == (3, 2)
    assert len(drain(core)) == 5
    assert len(one(core, request("more", prompt(5), 6))) == 6


# ------------------------------------------------------------------ interleavings
@dataclass
class Play:
    """A random sequence of operations on a small engine, and what every stream must say."""

    core: EngineCore
    roomy: EngineCore
    rng: random.Random
    wanted: dict[str, types.GenerateRequest] = field(default_factory=dict)
    got: dict[str, list[types.TokenEvent]] = field(default_factory=lambda: defaultdict(list))
    parked: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)

    def text(self) -> list[int]:
        """Draw a prompt that begins like others do."""
        head = prompt(self.rng.choice((0, 31, 32, 64, 90)), seed=self.rng.randrange(2))
        return head + prompt(self.rng.choice((1, 2, 33, 60)), seed=self.rng.randrange(3))

    def admit(self, number: int) -> None:
        one = request(
            f"s{number}",
            self.text(),
            self.rng.choice((1, 5, 40, 70)),
            scope=self.rng.choice(("x", "x", "y", None)),
            temperature=self.rng.choice((0.0, 1.0)),
            seed=self.rng.randrange(99),
        )
        self.wanted[one.stream_id] = one
        self.core.admit(one)

    def tick(self) -> None:
        for name, event in self.core.tick(frozenset(self.parked)):
            assert name not in self.parked
            self.got[name].append(event)
        stats = self.core.stats()
        assert stats.kv_bytes <= stats.kv_max_bytes

    def live(self) -> list[str]:
        over = {name for name, events in self.got.items() if events and events[-1].finish}
        return [name for name in self.wanted if name not in over | self.cancelled]

    def step(self, number: int) -> None:
        match self.rng.choices(("admit", "tick", "park", "resume", "cancel"), (2, 12, 1, 2, 1))[0]:
            case "admit":
                self.admit(number)
            case "park" if started := [name for name in self.live() if self.got[name]]:
                self.parked.add(self.rng.choice(started))
            case "resume" if self.parked:
                self.parked.discard(self.rng.choice(sorted(self.parked)))
            case "cancel" if self.live():
                name = self.rng.choice(self.live())
                assert self.core.cancel(name)
                self.cancelled.add(name)
                self.parked.discard(name)
            case _:
                self.tick()


@pytest.fixture(scope="module")
def roomy(directory: Path) -> EngineCore:
    return make(directory, pages=64)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_in_whatever_order_every_stream_says_what_it_says_alone(
    directory: Path, roomy: EngineCore, seed: int
) -> None:
    play = Play(make(directory, pages=9), roomy, random.Random(seed))
    play.core._sampler._max_streams = 5
    play.core._sampler._prefill_tokens = 32
    for number in range(150):
        play.step(number)
    play.parked.clear()
    while play.core.has_streams:
        play.tick()
    assert sum(len(events) for events in play.got.values()) > 100
    for name, wanted in play.wanted.items():
        alone = one(roomy, types.GenerateRequest(stream_id=name, prompt=wanted.prompt, sampling=wanted.sampling))
        assert_same(play.got[name], alone[: len(play.got[name])])
        assert name in play.cancelled or len(play.got[name]) == len(alone)
    assert_clean(play.core)


def assert_clean(core: EngineCore) -> None:
    """Nobody holds a page and the front is empty; all that is used is kept and can be had."""
    cache = core._sampler._cache
    assert cache.pool.front == 0
    assert cache.available == cache.pool.slots
    assert torch.isfinite(cache.pool.data[:, :, [page.slot for page in cache.pool._at.values()]]).all()
