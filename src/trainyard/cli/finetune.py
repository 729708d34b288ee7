"""Supervised fine-tuning over the public interface: steps, validation, checkpoints, and what to do after a crash."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from trainyard.cli.dataset import Batches, Line
from trainyard.sdk import errors, results
from trainyard.sdk.run import Run

EVALUATION_BATCH = 32
"""Held-out lines per call; only the size of a request depends on it, never the loss."""

LOST_TO_A_CRASH = frozenset({"engine_restarting", "engine_starting", "gradients_lost", "run_not_open"})
CRASHES_BORNE = 5
CRASH_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How far and how often.

    Attributes:
        steps: Optimiser steps that the run has at the end.
        evaluate_every: Steps between two validations; 0 = only at both ends.
        checkpoint_every: Steps between two checkpoints; 0 = only at the end.
    """

    steps: int
    evaluate_every: int = 0
    checkpoint_every: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the training stands after a step.

    Attributes:
        loss: Of the last batch, mean over its learned tokens, in nats.
        tokens_per_s: Input tokens over wall time of the steps of this session, requests included.
        eta_s: Seconds left at that pace.
    """

    step: int
    steps: int
    loss: float
    learning_rate: float
    tokens_per_s: float
    eta_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a session of training did.

    Attributes:
        validation: (step, loss) of each validation, oldest first.
        tokens: Input tokens of the steps made in this session.
        train_s: Wall seconds of these steps.
        is_complete: Whether all steps were made; False after an interruption.
        saved: The last checkpoint.
    """

    step: int
    validation: list[tuple[int, float]]
    tokens: int
    train_s: float
    is_complete: bool
    saved: results.SavedState

    @property
    def tokens_per_s(self) -> float:
        """Input tokens per second of wall time; 0 when no step was made."""
        return self.tokens / self.train_s if self.train_s else 0.0


class Report(Protocol):
    """Who is told what happens."""

    def stepped(self, progress: Progress) -> None:
        """Take note of a step."""
        ...

    def evaluated(self, step: int, loss: float) -> None:
        """Take note of a validation loss."""
        ...

    def saved(self, state: results.SavedState) -> None:
        """Take note of a checkpoint."""
        ...

    def resumed(self, step: int, reason: str) -> None:
        """Take note that the engine died and training goes on from a step."""
        ...


class FineTune:
    """One session of training one run."""

    def __init__(
        self,
        run: Run,
        batches: Batches,
        held_out: Sequence[Line],
        plan: Plan,
        report: Report,
        *,
        clock: Callable[[], float] = time.perf_counter,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare; nothing is sent.

        Args:
            run: New, or one to continue at its step.
            batches: The batch of every step.
            held_out: Lines for the validation loss; none = no validation.
            plan: How far and how often.
            report: Who is told.
            clock: Seconds, for the pace.
            pause: Waits while an engine restarts.
        """
        self._run = run
        self._batches = batches
        self._held_out = held_out
        self._plan = plan
        self._report = report
        self._clock = clock
        self._pause = pause
        self._validation: list[tuple[int, float]] = []
        self._tokens = 0
        self._train_s = 0.0
        self._made = 0
        self._holds_held_out_gradients = False

    def go(self, is_stopped: Callable[[], bool] = lambda: False) -> Outcome:
        """Train from the run's step to the plan's, or until stopped; saves a checkpoint at the end in both cases.

        Raises:
            TrainyardAPIError: What no retry can mend, or a sixth crash of the engine.
        """
        step = self._run.get_status().current_step
        crashes = 0
        is_begun = False
        while step < self._plan.steps and not is_stopped():
            try:
                if not is_begun:
                    self._evaluate(step)
                    is_begun = True
                step = self._step(step)
                self._after(step)
            except errors.TrainyardAPIError as error:
                crashes += 1
                if error.code not in LOST_TO_A_CRASH or crashes > CRASHES_BORNE:
                    raise
                step = self._return(error)
        return self._finish(step)

    def _step(self, step: int) -> int:
        begin = self._clock()
        loss = self._run.forward_backward(self._batches.at(step))
        self._holds_held_out_gradients = False
        made = self._run.optim_step()
        self._train_s += self._clock() - begin
        self._tokens += loss.metrics.tokens
        self._made += 1
        self._report.stepped(self._progress(made, loss))
        return made.step

    def _progress(self, made: results.OptimStep, loss: results.ForwardBackward) -> Progress:
        left = max(self._plan.steps - made.step, 0)
        return Progress(
            step=made.step,
            steps=self._plan.steps,
            loss=loss.loss,
            learning_rate=made.learning_rate,
            tokens_per_s=self._tokens / self._train_s if self._train_s else 0.0,
            eta_s=left * self._train_s / self._made,
        )

    def _after(self, step: int) -> None:
        is_last = step >= self._plan.steps
        if is_last or (self._plan.evaluate_every and step % self._plan.evaluate_every == 0):
            self._evaluate(step)
        if not is_last and self._plan.checkpoint_every and step % self._plan.checkpoint_every == 0:
            self._report.saved(self._run.save_state())

    def _evaluate(self, step: int) -> None:
        if self._held_out:
            self._holds_held_out_gradients = True
            loss = held_out_loss(self._run, [line.example for line in self._held_out])
            self._validation.append((step, loss))
            self._report.evaluated(step, loss)

    def _return(self, error: errors.TrainyardAPIError) -> int:
        """Wait for the engine and read where the run came back; what was lost is done again."""
        self._pause(error.retry_after_s or CRASH_PAUSE_S)
        step = int(self._run.get_status().current_step)
        self._report.resumed(step, error.message)
        return step

    def _finish(self, step: int) -> Outcome:
        """Save, and put the next batch's gradients in the place of held-out ones, so that nobody can apply those."""
        if self._holds_held_out_gradients:
            self._run.forward_backward(self._batches.at(step))
        saved = self._run.save_state()
        self._report.saved(saved)
        is_complete = step >= self._plan.steps
        return Outcome(step, self._validation, self._tokens, self._train_s, is_complete, saved)


def held_out_loss(run: Run, examples: Sequence[dict[str, Any]]) -> float:
    """Measure the mean loss over the learned tokens of examples, in nats, with the run's weights as they are.

    The interface has no loss without gradients yet, so each call also computes gradients. They take the place of held
    ones (accumulate = false): call it between an `optim_step` and the next `forward_backward`, which replaces them in
    turn. It costs about three times what the loss alone would.
    """
    loss_sum = weight_sum = 0.0
    for first in range(0, len(examples), EVALUATION_BATCH):
        result = run.forward_backward(examples[first : first + EVALUATION_BATCH], accumulate=False)
        loss_sum += result.metrics.loss_sum
        weight_sum += result.metrics.weighted_tokens
    return loss_sum / weight_sum if weight_sum else math.nan
