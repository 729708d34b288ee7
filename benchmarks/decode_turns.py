"""How late a next token comes while a run trains or a long prompt is read, and what training keeps beside 16 streams.

A compute loop is driven by hand in this one thread, and CPU seconds are its clock, so that other programs on the
machine do not show.
"""

import itertools
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks import report, rivals, shapes
from trainyard.core import errors
from trainyard.engine import calls, protocol, types
from trainyard.engine.core import EngineCore
from trainyard.engine.loop import ComputeLoop

CALL, FIRST_STREAM = 1, 1000
TICKS = 40
TRAINING_ROWS = 8
"""Sequences of `shapes.TRAINING_TOKENS` tokens that are trained in one measurement: several chunks."""
LONG_PROMPT = 900


@dataclass(eq=False)
class Desk:
    """Takes what the loop sends: when tokens came, which streams are over, whether the call is answered."""

    loop: ComputeLoop | None = None
    arrivals: dict[int, list[float]] = field(default_factory=dict)
    over: set[int] = field(default_factory=set)
    has_result: bool = True

    def result(self, number: int, message: types.Message) -> None:
        """Note that a call has been answered."""
        self.has_result = True

    def error(self, number: int, error: errors.TrainyardError) -> None:
        """End the measurement."""
        raise SystemExit(f"call {number} failed: {error.message}")

    def tokens(self, batch: list[protocol.Tokens]) -> None:
        """Note the time, and give the credit back at once."""
        now = time.process_time()
        for new in batch:
            self.arrivals.setdefault(new.stream, []).extend([now] * len(new.events))
            if new.events[-1].finish is not None:
                self.over.add(new.stream)
            elif self.loop is not None:
                self.loop.credit(self, new.stream, len(new.events))


class Yard:
    """One engine with a run, a desk and a loop that is driven round by round."""

    def __init__(self, core: EngineCore, prompts: list[list[int]]) -> None:
        self.desk = Desk()
        self.loop = self.desk.loop = ComputeLoop(core)
        self._prompts = prompts
        self._numbers = itertools.count(FIRST_STREAM)
        shape = shapes.Shape("", "", 0, 0, 0, 0, 0, core.info().vocab_size, True)
        self._batch = rivals.examples(shape, TRAINING_ROWS, shapes.TRAINING_TOKENS, 1.0)
        self._call(calls.OpenRun(spec=rivals.run_spec()))

    def close(self) -> None:
        """Forget the run."""
        self._call(calls.CloseRun(run_id="run_0"))

    def _call(self, call: calls.AnyCall) -> None:
        self.desk.has_result = False
        self.loop.submit(self.desk, CALL, call)
        while not self.desk.has_result:
            self.loop.round(0)

    def stream(self, prompt: list[int], new_tokens: int) -> int:
        """Admit a greedy stream."""
        number = next(self._numbers)
        sampling = types.Sampling(max_tokens=new_tokens, temperature=0.0)
        wanted = types.GenerateRequest(stream_id=str(number), prompt=types.int32(prompt), sampling=sampling)
        self.loop.submit(self.desk, number, calls.Generate(request=wanted))
        return number

    def train(self) -> float:
        """Train the batch; gives the tokens per CPU second."""
        start = time.process_time()
        self._call(calls.ForwardBackward(run_id="run_0", data=self._batch, accumulate=False, loss_fn="causal_lm"))
        return TRAINING_ROWS * shapes.TRAINING_TOKENS / (time.process_time() - start)

    def wait(self) -> None:
        """Let the streams say `TICKS` tokens, undisturbed."""
        for _ in range(TICKS):
            self.loop.round(0)

    def read(self) -> None:
        """Have a long prompt read."""
        number = self.stream([3 + i % 200 for i in range(LONG_PROMPT)], 1)
        while number not in self.desk.over:
            self.loop.round(0)

    def p99_s(self, work: Callable[[], object], streams: int = shapes.DECODE_STREAMS) -> float:
        """Give the 99th percentile of the times between neighbouring tokens of streams while some work is done."""
        numbers = [self.stream(prompt, 10_000) for prompt in self._prompts[:streams]]
        arrivals = self.desk.arrivals
        while any(number not in arrivals for number in numbers):
            self.loop.round(0)
        for number in numbers:
            arrivals[number].clear()
        work()
        for number in numbers:
            self.loop.cancel(self.desk, number)
        self.loop.round(0)
        gaps = sorted(b - a for number in numbers for a, b in itertools.pairwise(arrivals[number]))
        return gaps[math.ceil(0.99 * len(gaps)) - 1]


def measure(label: str, core: EngineCore, prompts: list[list[int]], count: int) -> list[report.Result]:
    """Compare each disturbance with its absence, in rounds that take turns."""
    yard = Yard(core, prompts)
    training, share, reading = [], [], []
    for _ in range(count):
        rates: list[float] = []
        calm = yard.p99_s(yard.wait)
        training.append(yard.p99_s(lambda: rates.append(yard.train())) / calm)  # noqa: B023 - called at once
        share.append(rates[0] / yard.train())
        few = shapes.DECODE_STREAMS - 1
        reading.append(yard.p99_s(yard.read, few) / yard.p99_s(yard.wait, few))
    yard.close()
    return [
        _result("itl_p99_training", label, training, "p99 between tokens without training"),
        _result("training_share", label, share, "training alone"),
        _result("itl_p99_prompt", label, reading, "p99 between tokens without a long prompt"),
    ]


def _result(name: str, label: str, ratios: list[float], rival: str) -> report.Result:
    return report.Result(name, label, statistics.median(ratios), "x", rival, None, report.spread(ratios))
