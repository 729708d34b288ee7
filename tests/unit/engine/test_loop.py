"""Whose turn, round by round: a core that only writes down what is asked of it, and no thread."""

import threading
import time
from pathlib import Path
from typing import Literal

import pytest

from trainyard.core import errors
from trainyard.core.clock import FakeClock
from trainyard.engine import calls, cores, protocol, types
from trainyard.engine.fake_core import FakeCore, FakePass
from trainyard.engine.loop import ComputeLoop
from trainyard.testing import run_specs

PROJECTIONS = ("q_proj",)


class Notes:
    """An outlet that keeps what it gets."""

    def __init__(self) -> None:
        self.results: dict[int, types.Message] = {}
        self.errors: dict[int, errors.TrainyardError] = {}
        self.streams: dict[int, list[types.TokenEvent]] = {}
        self.batches: list[list[int]] = []

    def result(self, number: int, message: types.Message) -> None:
        self.results[number] = message

    def error(self, number: int, error: errors.TrainyardError) -> None:
        self.errors[number] = error

    def tokens(self, batch: list[protocol.Tokens]) -> None:
        self.batches.append([tokens.stream for tokens in batch])
        for tokens in batch:
            self.streams.setdefault(tokens.stream, []).extend(tokens.events)


class WrittenPass(FakePass):
    def __init__(self, core: "WrittenCore", wanted: list[calls.ForwardBackward]) -> None:
        super().__init__(core, wanted)
        self._written = core.written
        self._names = ",".join(call.run_id for call in wanted)
        self._steps_left = max(len(call.data) for call in wanted)
        self._fault = core.fault

    def step(self) -> bool:
        self._written.append(f"step {self._names}")
        if self._fault == "pass":
            raise ArithmeticError("the pass broke")
        return super().step()


class WrittenCore(FakeCore):
    """A pass takes as many micro-steps as its largest call has sequences."""

    def __init__(
        self, fault: Literal["", "pass", "tick", "disk", "slow disk", "memory", "step"] = "", *, max_streams: int = 64
    ) -> None:
        super().__init__(max_streams=max_streams)
        self.written: list[str] = []
        self.fault = fault

    def begin_training(self, wanted: list[calls.ForwardBackward], /) -> cores.Pass:  # type: ignore[override]
        return WrittenPass(self, wanted)

    def optim_step(self, run_id: str, learning_rate: float | None = None) -> types.OptimResult:
        self.written.append(f"optim {run_id}")
        if self.fault == "step":
            raise ZeroDivisionError("the step broke")
        return super().optim_step(run_id, learning_rate)

    def tick(self, parked: frozenset[str] = frozenset()) -> list[tuple[str, types.TokenEvent]]:
        self.written.append("tick")
        if self.fault == "tick":
            raise MemoryError("the tick broke")
        return super().tick(parked)

    def write_state(self, snapshot: object) -> int:
        if self.fault == "disk":
            raise OSError("No space left on device")
        if self.fault == "memory" and "/broken" in snapshot.directory:  # type: ignore[attr-defined]
            raise MemoryError("no room for the bytes of the state")
        if self.fault == "slow disk" and threading.current_thread() is not threading.main_thread():
            time.sleep(0.1)  # the run is closed meanwhile
            raise OSError("No space left on device")
        return super().write_state(snapshot)  # type: ignore[arg-type]


class Desk:
    """A loop with one caller and a clock that stands still."""

    def __init__(self, tmp_path: Path, core: WrittenCore | None = None, *, stall_s: float = 30.0) -> None:
        self.core = core or WrittenCore()
        self.clock = FakeClock()
        self.notes = Notes()
        self.loop = ComputeLoop(self.core, stream_stall_s=stall_s, monotonic=self.clock.monotonic)
        self._tmp_path = tmp_path
        self._number = 0

    def ask(self, call: calls.AnyCall) -> int:
        self._number += 1
        self.loop.submit(self.notes, self._number, call)
        return self._number

    def rounds(self, count: int) -> list[str]:
        del self.core.written[:]
        for _ in range(count):
            self.loop.round(0)
        return list(self.core.written)

    def open(self, *names: str) -> None:
        for name in names:
            self.ask(calls.OpenRun(spec=spec(self._tmp_path, name)))
            self.rounds(1)

    def train(self, run_id: str, micro_steps: int = 1) -> int:
        return self.ask(
            calls.ForwardBackward(run_id=run_id, data=[DATUM] * micro_steps, accumulate=False, loss_fn="causal_lm")
        )

    def stream(self, max_tokens: int = 1000, timeout_s: float | None = None) -> int:
        sampling = types.Sampling(max_tokens=max_tokens)
        request = types.GenerateRequest(
            stream_id="same", prompt=types.int32([1]), sampling=sampling, timeout_s=timeout_s
        )
        return self.ask(calls.Generate(request=request))


DATUM = types.Datum(tokens=types.int32([1, 2]), targets=types.int32([2, 3]), weights=types.float32([1, 1]))


def spec(tmp_path: Path, run_id: str) -> types.RunSpec:
    return run_specs.make(run_id, tmp_path / run_id, lora_r=2, lora_alpha=4.0, target_modules=PROJECTIONS)


def test_a_decode_tick_comes_before_each_micro_step_while_streams_live(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.open("a")
    desk.stream()
    desk.train("a", micro_steps=3)
    assert desk.rounds(4) == ["tick", "step a", "tick", "step a", "tick", "step a", "tick"]


def test_calls_that_wait_together_become_one_pass_and_a_later_one_the_next(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.open("a", "b", "c")
    desk.train("a", micro_steps=2)
    desk.train("b")
    assert desk.rounds(1) == ["step a,b"]
    desk.train("c")
    assert desk.rounds(2) == ["step a,b", "step c"]


def test_two_calls_of_one_run_are_two_passes_in_their_order(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.open("a", "b")
    desk.train("a")
    desk.train("a")
    desk.train("b")
    assert desk.rounds(2) == ["step a,b", "step a"]


def test_a_step_waits_for_its_own_run_and_not_for_the_pass_of_another(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.open("a", "b")
    desk.train("b")
    desk.rounds(1)
    desk.train("a", micro_steps=3)
    own = desk.ask(calls.OptimStep(run_id="a", learning_rate=None))
    desk.rounds(1)
    other = desk.ask(calls.OptimStep(run_id="b", learning_rate=None))
    assert desk.rounds(1) == ["optim b", "step a"]
    assert other in desk.notes.results
    assert own not in desk.notes.results
    assert desk.rounds(2) == ["step a", "optim a"]
    assert own in desk.notes.results


def test_a_call_behind_a_long_pass_gets_its_own_after_a_quarter_second_and_both_take_turns(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.open("a", "b")
    desk.train("a", micro_steps=9)
    desk.rounds(1)
    desk.train("b", micro_steps=2)
    assert desk.rounds(1) == ["step a"]
    desk.clock.advance(0.24)
    assert desk.rounds(1) == ["step a"]
    desk.clock.advance(0.01)
    assert desk.rounds(5) == ["step a", "step b", "step a", "step b", "step a"]


def test_runs_take_turns_when_each_always_has_more_to_do(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.open("a", "b")
    for name in ("a", "b"):
        desk.train(name)
        desk.rounds(1)
    for _ in range(3):
        desk.ask(calls.Save(run_id="a", mode="adapter", directory=str(tmp_path / "taken")))
    last = desk.ask(calls.OptimStep(run_id="b", learning_rate=None))
    desk.rounds(2)
    assert last in desk.notes.results  # after one of a's three


def test_a_stream_is_ended_before_the_next_tick(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    one, two = desk.stream(), desk.stream()
    desk.rounds(2)
    desk.loop.cancel(desk.notes, one)
    desk.rounds(1)
    assert (len(desk.notes.streams[one]), len(desk.notes.streams[two])) == (2, 3)
    assert desk.notes.batches == [[one, two], [one, two], [two]]


def test_a_call_that_waits_is_taken_back_and_one_under_way_alone_is_dropped(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.open("a")
    first = desk.train("a", micro_steps=5)
    second = desk.train("a")
    desk.rounds(1)
    desk.loop.cancel(desk.notes, second)
    desk.loop.cancel(desk.notes, first)
    assert desk.rounds(2) == []
    assert not {first, second} & desk.notes.results.keys()
    assert desk.core.run_state("a").pending_tokens == 0


def test_who_leaves_a_shared_pass_leaves_no_gradients_and_the_other_gets_its_own(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.open("a", "b")
    leaves, stays = desk.train("a", micro_steps=2), desk.train("b", micro_steps=2)
    assert desk.rounds(1) == ["step a,b"]
    desk.loop.cancel(desk.notes, leaves)
    assert desk.rounds(1) == ["step a,b"]
    assert stays in desk.notes.results
    assert desk.core.run_state("a").pending_tokens == 0
    assert desk.core.run_state("b").pending_tokens > 0


def test_a_caller_that_is_gone_leaves_nothing_behind(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.open("a")
    desk.stream()
    desk.train("a", micro_steps=5)
    desk.rounds(1)
    desk.loop.drop(desk.notes)
    assert desk.rounds(2) == []


def test_a_stream_runs_256_tokens_ahead_and_goes_on_with_credit(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    stream = desk.stream()
    desk.rounds(300)
    assert len(desk.notes.streams[stream]) == 256
    desk.loop.credit(desk.notes, stream, 10)
    desk.rounds(20)
    assert len(desk.notes.streams[stream]) == 266


def test_a_parked_stream_is_ended_after_its_time_and_others_are_not(tmp_path: Path) -> None:
    desk = Desk(tmp_path, stall_s=30.0)
    stalled = desk.stream()
    desk.rounds(256)
    live = desk.stream()
    desk.clock.advance(29.9)
    desk.rounds(1)
    assert stalled not in desk.notes.errors
    desk.clock.advance(0.1)
    desk.rounds(1)
    assert desk.notes.errors[stalled].code == "stream_stalled"
    assert len(desk.notes.streams[live]) == 2


@pytest.mark.parametrize("state", ["draws", "waits", "is parked"])
def test_a_deadline_ends_a_stream_wherever_it_is(tmp_path: Path, state: str) -> None:
    desk = Desk(tmp_path, WrittenCore(max_streams=1))
    if state == "waits":
        desk.stream()
    late = desk.stream(timeout_s=5.0)
    desk.rounds(256 if state == "is parked" else 3)
    desk.clock.advance(4.9)
    desk.rounds(1)
    assert late not in desk.notes.errors
    desk.clock.advance(0.1)
    desk.rounds(1)
    error = desk.notes.errors[late]
    assert (type(error), error.code) == (errors.DeadlineExceeded, "generation_timeout")
    assert len(desk.notes.streams.get(late, [])) == {"draws": 4, "waits": 0, "is parked": 256}[state]
    assert desk.core.stats().active_streams + desk.core.stats().queued_streams == (state == "waits")


def test_a_deadline_counts_from_the_arrival_and_not_from_the_turn(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    late = desk.stream(timeout_s=5.0)
    desk.clock.advance(5.0)
    desk.rounds(1)
    assert desk.notes.errors[late].code == "generation_timeout"


def test_a_timeout_that_is_not_above_zero_is_refused(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    bad = desk.stream(timeout_s=0.0)
    desk.rounds(1)
    assert (type(desk.notes.errors[bad]), desk.notes.errors[bad].param) == (errors.InvalidRequest, "timeout_s")


def test_streams_that_are_all_parked_let_the_thread_sleep_until_the_first_ends(tmp_path: Path) -> None:
    desk = Desk(tmp_path, stall_s=30.0)
    desk.stream()
    desk.rounds(10)
    desk.clock.advance(2.0)
    desk.stream(timeout_s=8.0)
    desk.rounds(256)
    assert desk.loop._idle_s() == 8.0
    desk.clock.advance(7.0)
    assert desk.loop._idle_s() == 1.0


def test_a_parked_stream_leaves_its_place_to_one_that_waits(tmp_path: Path) -> None:
    desk = Desk(tmp_path, WrittenCore(max_streams=1))
    desk.stream()
    desk.rounds(256)
    waits = desk.stream(max_tokens=5)
    desk.rounds(6)
    assert len(desk.notes.streams[waits]) == 5
    assert desk.loop._idle_s() == 30.0


def test_a_pass_that_breaks_fails_its_calls_and_nothing_else(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.open("a", "b")
    stream = desk.stream()
    desk.core.fault = "pass"
    numbers = [desk.train("a"), desk.train("b")]
    desk.rounds(1)
    assert [desk.notes.errors[number].code for number in numbers] == ["internal_error"] * 2
    assert "ArithmeticError: the pass broke" in desk.notes.errors[numbers[0]].message
    desk.core.fault = ""
    after = desk.train("a")
    desk.rounds(1)
    assert after in desk.notes.results
    assert stream not in desk.notes.errors


def test_a_call_that_breaks_is_an_internal_error(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.open("a")
    desk.core.fault = "step"
    number = desk.ask(calls.OptimStep(run_id="a", learning_rate=None))
    desk.rounds(1)
    assert type(desk.notes.errors[number]) is errors.TrainyardError


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_tick_that_breaks_ends_the_thread_and_tells_everybody(tmp_path: Path) -> None:
    notes, deaths = Notes(), list[str]()
    loop = ComputeLoop(WrittenCore("tick"), on_death=lambda: deaths.append("died"))
    loop.start()
    request = types.GenerateRequest(stream_id="s", prompt=types.int32([1]), sampling=types.Sampling(max_tokens=5))
    loop.submit(notes, 1, calls.Generate(request=request))
    while 1 not in notes.errors:
        time.sleep(0.001)
    loop.drain()
    loop.submit(notes, 2, calls.Info())
    assert deaths == ["died"]
    assert {number: error.code for number, error in notes.errors.items()} == {
        1: "engine_restarting",
        2: "engine_restarting",
    }


def test_after_a_drain_calls_are_refused_and_states_are_on_disk(tmp_path: Path) -> None:
    core, notes = FakeCore(), Notes()
    core.holds_writes = True
    loop = ComputeLoop(core)
    loop.start()
    asked: list[calls.AnyCall] = [
        calls.OpenRun(spec=spec(tmp_path, "a")),
        calls.ForwardBackward(run_id="a", data=[DATUM], accumulate=False, loss_fn="causal_lm"),
        calls.OptimStep(run_id="a", learning_rate=None),
    ]
    for number, call in enumerate(asked):
        loop.submit(notes, number, call)
    while 2 not in notes.results:
        time.sleep(0.001)
    loop.drain()
    loop.submit(notes, 9, calls.Info())
    assert notes.errors[9].code == "engine_restarting"
    assert '"step":1' in (tmp_path / "a" / "state.json").read_text()


def test_a_state_that_the_disk_refuses_is_not_called_durable_and_is_written_later(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.open("a")
    desk.train("a")
    desk.rounds(1)
    desk.core.fault = "disk"
    desk.ask(calls.OptimStep(run_id="a", learning_rate=None))
    for _ in range(50):
        desk.loop.round(0.01)
    assert desk.core.run_state("a").durable_step == 0
    desk.core.fault = ""
    desk.loop.round(0.01)
    assert desk.core.run_state("a").durable_step == 0
    desk.clock.advance(5)
    for _ in range(500):
        desk.loop.round(0.01)
        if desk.core.run_state("a").durable_step == 1:
            break
    assert desk.core.run_state("a").durable_step == 1


def test_a_run_that_closes_while_its_state_is_refused_is_not_looked_at_again(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.open("a")
    desk.train("a")
    desk.rounds(1)
    desk.core.fault = "slow disk"
    desk.ask(calls.OptimStep(run_id="a", learning_rate=None))
    closing = desk.ask(calls.CloseRun(run_id="a"))
    desk.rounds(2)
    closed = desk.notes.results[closing]
    assert isinstance(closed, types.RunState)
    assert closed.durable_step == 1
    desk.clock.advance(5)
    desk.rounds(1)  # a run that is not open would end the thread here


def test_a_state_that_cannot_be_written_at_the_end_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    core, notes = WrittenCore(), Notes()
    core.holds_writes = True
    loop = ComputeLoop(core)
    loop.start()
    number = 0
    for run_id in ("broken", "a", "b", "c"):
        for call in (
            calls.OpenRun(spec=spec(tmp_path, run_id)),
            calls.ForwardBackward(run_id=run_id, data=[DATUM], accumulate=False, loss_fn="causal_lm"),
            calls.OptimStep(run_id=run_id, learning_rate=None),
        ):
            number += 1
            loop.submit(notes, number, call)
    while len(notes.results) < number:
        time.sleep(0.001)
    core.fault = "memory"
    loop.drain()
    states = {path.parent.name: path.read_text() for path in tmp_path.glob("*/state.json")}
    assert {name for name, state in states.items() if '"step":1' in state} == {"a", "b", "c"}
