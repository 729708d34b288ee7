from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.cli.training_yard import TOKENS, TrainingYard
from trainyard.cli.dataset import Batches, Line, parse
from trainyard.cli.finetune import CRASHES_BORNE, FineTune, Outcome, Plan, Progress, held_out_loss
from trainyard.sdk import ConflictError, ServerError, ValidationError

LINES = parse([f'{{"text": "{"x" * length}"}}' for length in (1, 2, 3, 4, 5)], "data")
HELD_OUT = parse(['{"text": "hhhhhhhh"}', '{"text": "hhhhhhhhhhhhhhhh"}'], "held")  # 8 and 16 characters
HELD_BATCH = [line.example for line in HELD_OUT]


class Notes:
    """A report that remembers."""

    def __init__(self) -> None:
        self.progress: list[Progress] = []
        self.evaluations: list[tuple[int, float]] = []
        self.saves: list[str] = []
        self.resumptions: list[tuple[int, str]] = []

    def stepped(self, progress: Progress) -> None:
        self.progress.append(progress)

    def evaluated(self, step: int, loss: float) -> None:
        self.evaluations.append((step, loss))

    def saved(self, state: Any) -> None:
        self.saves.append(state.name)

    def resumed(self, step: int, reason: str) -> None:
        self.resumptions.append((step, reason))


def ticks() -> Iterator[float]:
    """A clock on which every reading is half a second after the one before."""
    now = 0.0
    while True:
        yield now
        now += 0.5


def tune(yard: TrainingYard, plan: Plan, notes: Notes, held_out: list[Line] | None = None) -> FineTune:
    clock = ticks()
    return FineTune(
        yard.run(), Batches(LINES, 2, seed=1), HELD_OUT if held_out is None else held_out, plan, notes,
        clock=lambda: next(clock), pause=lambda _: None,
    )  # fmt: skip


def go(yard: TrainingYard, plan: Plan) -> tuple[Outcome, Notes]:
    notes = Notes()
    return tune(yard, plan, notes).go(), notes


def expected_batches(*steps: int) -> list[list[dict[str, Any]]]:
    batches = Batches(LINES, 2, seed=1)
    return [batches.at(step) for step in steps]


def test_every_step_applies_its_own_batch() -> None:
    yard = TrainingYard()
    outcome, _ = go(yard, Plan(7))
    assert yard.applied == expected_batches(0, 1, 2, 3, 4, 5, 6)
    assert (outcome.step, outcome.is_complete, outcome.saved.name) == (7, True, "step_7")


def test_a_resumed_run_applies_what_the_uninterrupted_one_would_have() -> None:
    yard = TrainingYard(step=4)
    go(yard, Plan(7))
    assert yard.applied == expected_batches(4, 5, 6)


# the held-out lines have losses 8 and 16, so their mean is 12
@pytest.mark.parametrize(("evaluate_every", "steps"), [(0, [0, 4]), (2, [0, 2, 4]), (3, [0, 3, 4]), (4, [0, 4])])
def test_validation_happens_at_both_ends_and_as_often_as_asked(evaluate_every: int, steps: list[int]) -> None:
    outcome, notes = go(TrainingYard(), Plan(4, evaluate_every=evaluate_every))
    assert outcome.validation == notes.evaluations == [(step, 12.0) for step in steps]


def test_held_out_gradients_are_never_applied_nor_left_behind() -> None:
    yard = TrainingYard()
    go(yard, Plan(4, evaluate_every=1))
    assert HELD_BATCH not in yard.applied
    assert yard.batches[-2:] == [HELD_BATCH, *expected_batches(4)]  # the last validation is replaced


def test_without_held_out_lines_nothing_is_validated() -> None:
    yard, notes = TrainingYard(), Notes()
    outcome = tune(yard, Plan(2), notes, held_out=[]).go()
    assert (outcome.validation, yard.batches) == ([], expected_batches(0, 1))


@pytest.mark.parametrize(("checkpoint_every", "steps"), [(0, [5]), (2, [2, 4, 5]), (5, [5])])
def test_checkpoints_are_saved_as_often_as_asked_and_at_the_end(checkpoint_every: int, steps: list[int]) -> None:
    yard = TrainingYard()
    _, notes = go(yard, Plan(5, checkpoint_every=checkpoint_every))
    assert yard.saves == steps
    assert notes.saves == [f"step_{step}" for step in steps]


def test_pace_and_time_left_follow_from_the_steps() -> None:
    outcome, notes = go(TrainingYard(), Plan(4))
    # the clock ticks half a second a step: 10 tokens in 0.5 s are 20 a second
    assert [progress.tokens_per_s for progress in notes.progress] == [20.0] * 4
    assert [progress.eta_s for progress in notes.progress] == [1.5, 1.0, 0.5, 0.0]
    assert [progress.learning_rate for progress in notes.progress] == [0.5] * 4
    assert (outcome.tokens, outcome.train_s, outcome.tokens_per_s) == (4 * TOKENS, 2.0, 20.0)


def test_a_stop_is_obeyed_at_the_border_of_a_step_and_saves() -> None:
    yard, notes = TrainingYard(), Notes()
    outcome = tune(yard, Plan(9), notes).go(is_stopped=lambda: yard.step >= 3)
    assert (outcome.step, outcome.is_complete, yard.saves, len(yard.applied)) == (3, False, [3], 3)


def test_a_run_that_has_all_its_steps_is_only_saved() -> None:
    yard = TrainingYard(step=5)
    outcome, _ = go(yard, Plan(5))
    assert (outcome.step, outcome.tokens_per_s, yard.batches, yard.saves) == (5, 0.0, [], [5])


@pytest.mark.parametrize(
    ("verb", "status", "code"),
    [
        ("forward_backward", 503, "engine_restarting"),
        ("optim_step", 503, "engine_restarting"),
        ("optim_step", 409, "gradients_lost"),
        ("forward_backward", 503, "engine_starting"),
    ],
)
def test_after_a_crash_the_lost_steps_are_done_again(verb: str, status: int, code: str) -> None:
    yard, notes = TrainingYard(), Notes()
    trained = tune(yard, Plan(4), notes, held_out=[])
    seen: list[bool] = []

    def crash_after_two_steps() -> bool:
        if yard.step == 2 and not seen:
            seen.append(True)
            yard.fail(verb, status, code, back_to=1)
        return False

    outcome = trained.go(crash_after_two_steps)
    assert yard.applied == expected_batches(0, 1, 1, 2, 3)
    assert (outcome.step, notes.resumptions) == (4, [(1, "it died")])


def test_a_crash_during_the_first_validation_begins_again() -> None:
    yard = TrainingYard()
    yard.fail("forward_backward", 503, "engine_restarting")
    outcome, notes = go(yard, Plan(1))
    assert (outcome.validation, len(notes.resumptions)) == ([(0, 12.0), (1, 12.0)], 1)


def test_patience_with_crashes_ends() -> None:
    yard = TrainingYard()
    for _ in range(CRASHES_BORNE + 1):
        yard.fail("forward_backward", 503, "engine_restarting")
    with pytest.raises(ServerError, match="it died"):
        go(yard, Plan(1))


@pytest.mark.parametrize(
    ("status", "code", "kind"), [(422, "validation_error", ValidationError), (409, "run_not_active", ConflictError)]
)
def test_other_errors_end_the_training_at_once(status: int, code: str, kind: type[Exception]) -> None:
    yard = TrainingYard()
    yard.fail("forward_backward", status, code)
    with pytest.raises(kind):
        go(yard, Plan(1))


# 33 lines take two calls; a line of n characters has loss n and weight 1: the mean of 1..33 is 17
def test_the_held_out_loss_does_not_depend_on_the_size_of_requests() -> None:
    yard = TrainingYard()
    assert held_out_loss(yard.run(), [{"text": "x" * n} for n in range(1, 34)]) == 17.0
    assert [len(batch) for batch in yard.batches] == [32, 1]
