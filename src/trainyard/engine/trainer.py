"""Open runs, and passes that compute the gradients of several calls at once."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from trainyard.core import errors
from trainyard.engine import cores, losses, packing, types
from trainyard.engine.adapters import AdapterTensors
from trainyard.engine.calls import ForwardBackward
from trainyard.engine.dropout import DropoutKey
from trainyard.engine.lora import Segment
from trainyard.engine.model import Decoder
from trainyard.engine.packing import Chunk, Example, Span
from trainyard.engine.passes import ChunkPass, Precision
from trainyard.engine.runs import Run

CHUNK_TOKENS_CPU, CHUNK_TOKENS_GPU = 1024, 16384
LAYER_FLOP_CPU = 4e9
"""Work of the way back through one layer, the longest piece that a decode tick waits for: 50 ms at 80 GFLOP/s."""
MIN_CHUNK_TOKENS = 128
"""Smaller chunks make the matrix products of a step slow."""
MIX_BELOW_TOKENS = 1024
"""Mean tokens per call up to which calls share chunks; a longer call fills chunks of its own.

Measured (one thread, CPU seconds, whole step, ranks 8 to 32): mixed over one by one is 2.2 at 32 calls x 16 tokens,
1.9 at 32 x 32, 1.4 at 8 x 128, 1.04 at 4 x 512 and 1.01 at 2 x 1,024 on a base of 1.2 M; 1.9 at 32 x 16, 1.2 at 8 x 64,
1.08 at 8 x 128, 1.07 at 4 x 256, 1.00 at 4 x 512 and 1.03 at 2 x 1,024 on one of 8.7 M. It never lost.
"""
STEP_S = 0.025
"""A `TrainingPass.step` returns after this long at the next border of layers; a decode tick waits at most 50 ms."""


@dataclass
class _Work:
    """A call on its way through a pass."""

    call: ForwardBackward
    run: Run
    loss: losses.Loss
    examples: list[Example]
    gradients: AdapterTensors
    call_number: int
    loss_sum: float = 0.0
    packed_runs: int = 0
    compute_s: float = 0.0


class Trainer:
    """The runs that are open over one decoder."""

    def __init__(self, decoder: Decoder, *, chunk_tokens: int | None = None) -> None:
        self.decoder = decoder
        self.runs: dict[str, Run] = {}
        self.trained_tokens = 0
        self.chunk_tokens = chunk_tokens or _chunk_tokens(decoder)

    def open_run(self, spec: types.RunSpec) -> Run:
        """Open or restore a run; an open one is returned unchanged."""
        if spec.run_id not in self.runs:
            self.runs[spec.run_id] = Run(self.decoder.cfg, spec, self.decoder.device)
        return self.runs[spec.run_id]

    def run(self, run_id: str) -> Run:
        """Find an open run; errors.NotFound (code `run_not_open`)."""
        if run_id not in self.runs:
            raise errors.NotFound(f"run {run_id!r} is not open in this engine", code="run_not_open")
        return self.runs[run_id]

    def close_run(self, run_id: str) -> None:
        """Forget an open run."""
        self.runs.pop(run_id).close()

    def optim_step(self, run_id: str, learning_rate: float | None = None) -> types.OptimResult:
        """Apply and clear the held gradients of a run."""
        return self.run(run_id).optim_step(learning_rate)

    def begin(self, calls: Sequence[ForwardBackward]) -> "TrainingPass":
        """Check the calls and plan them; see `EngineCore.begin_training`."""
        return TrainingPass(self, calls)

    def prepare(self, number: int, call: ForwardBackward, earlier: int) -> _Work:
        """Check one call; `earlier` calls of the same run stand before it in the pass."""
        run, loss = self.run(call.run_id), losses.by_name(call.loss_fn)
        cfg = self.decoder.cfg
        examples = packing.decode(number, call.data, cfg.vocab_size, cfg.max_positions)
        return _Work(call, run, loss, examples, run.take_buffer(), run.calls + earlier)


@dataclass
class TrainingPass:
    """Several calls computed together; nothing of it is visible in a run before its last step."""

    trainer: Trainer
    calls: Sequence[ForwardBackward]
    _works: dict[int, _Work] = field(default_factory=dict)
    _outcome: dict[int, types.ForwardBackwardResult | errors.TrainyardError] = field(default_factory=dict)
    _withdrawn: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        seen: dict[str, int] = {}
        for number, call in enumerate(self.calls):
            try:
                self._works[number] = self.trainer.prepare(number, call, seen.get(call.run_id, 0))
                seen[call.run_id] = seen.get(call.run_id, 0) + 1
            except errors.TrainyardError as error:
                self._outcome[number] = error
        self._progress = self._run()

    def step(self) -> bool:
        """Compute for about `STEP_S`; true when the pass is done."""
        until = time.perf_counter() + STEP_S
        return all(time.perf_counter() < until for _ in self._progress)

    def results(self) -> list[types.ForwardBackwardResult | errors.TrainyardError]:
        """Give one outcome per call, in order; valid once `step` was true."""
        return [self._outcome[number] for number in range(len(self.calls))]

    def withdraw(self, number: int) -> None:
        """Take back the call of this place: its gradients are not added to its run."""
        self._withdrawn.add(number)

    def _run(self) -> Iterator[None]:
        for precision, group in self._chunks():
            yield from self._run_chunk(precision, group)
        for number, work in self._works.items():
            self._outcome[number] = cores.withdrawn() if number in self._withdrawn else self._commit(work)

    def _chunks(self) -> Iterator[tuple[Precision, list[Example]]]:
        """Cut the examples into chunks; only runs of the same precision and checkpointing share one."""
        kinds: dict[Precision, list[Example]] = {}
        for work in self._works.values():
            spec = work.run.spec
            precision = Precision(torch.bfloat16 if spec.bf16 else torch.float32, spec.gradient_checkpointing)
            kinds.setdefault(precision, []).extend(work.examples)
        for precision, examples in kinds.items():
            mixed = is_mixing_better(examples)
            for group in packing.cut(examples, self.trainer.chunk_tokens, mixed=mixed):
                yield precision, group

    def _run_chunk(self, precision: Precision, group: list[Example]) -> Iterator[None]:
        started = time.perf_counter()
        chunk = packing.pack(group, self.trainer.decoder.device)
        works = [self._works[span.call] for span in chunk.spans]
        spans = list(zip(chunk.spans, works, strict=True))
        chunk_pass = ChunkPass(
            self.trainer.decoder,
            chunk,
            [_segment(span, work) for span, work in spans],
            [_kept_segment(chunk, span, work) for span, work in spans],
            [work.loss for work in works],
            precision,
        )
        paused = 0.0
        for _ in chunk_pass.run():
            at = time.perf_counter()
            yield
            paused += time.perf_counter() - at
        elapsed = time.perf_counter() - started - paused
        runs = len({work.call.run_id for work in works})
        for work, loss_sum in zip(works, chunk_pass.loss_sums, strict=True):
            work.loss_sum += loss_sum
            work.packed_runs = max(work.packed_runs, runs)
            work.compute_s += elapsed

    def _commit(self, work: _Work) -> types.ForwardBackwardResult | errors.TrainyardError:
        weight_sum = float(sum(e.weights_T.sum(dtype="f8") for e in work.examples))
        tokens = sum(datum.length for datum in work.call.data)
        if not bool(torch.isfinite(work.gradients.flat).all()):
            return errors.TrainyardError(
                "the gradients are not finite; lower the learning rate", code="non_finite_gradients"
            )
        pending = sum(int((e.weights_T != 0).sum()) for e in work.examples)
        work.run.commit(work.gradients, weight_sum, pending, accumulate=work.call.accumulate)
        self.trainer.trained_tokens += tokens
        grad_norm, grad_max = work.run.gradient_norms()
        return types.ForwardBackwardResult(
            loss=work.loss_sum / weight_sum,
            loss_sum=work.loss_sum,
            weight_sum=weight_sum,
            tokens=tokens,
            grad_norm=grad_norm,
            grad_max=grad_max,
            step=work.run.step,
            packed_runs=work.packed_runs,
            compute_s=work.compute_s,
        )


def is_mixing_better(examples: Sequence[Example]) -> bool:
    """Decide whether calls share chunks, by their mean number of tokens."""
    calls = len({example.call for example in examples})
    return sum(example.length for example in examples) < MIX_BELOW_TOKENS * calls


def _keys(span: Span, work: _Work) -> list[DropoutKey]:
    spec = work.run.spec
    if spec.lora_dropout == 0.0:
        return []
    return [DropoutKey(spec.lora_dropout, spec.seed, work.call_number, e.index, e.length) for e in span.sequences]


def _segment(span: Span, work: _Work) -> Segment:
    return Segment(span.start, span.stop, work.run.weights, work.gradients, tuple(_keys(span, work)))


def _kept_segment(chunk: Chunk, span: Span, work: _Work) -> Segment:
    keys = []
    for key, example in zip(_keys(span, work), span.sequences, strict=False):
        rows = torch.from_numpy(np.flatnonzero(example.weights_T))
        keys.append(key.keeping(rows.to(chunk.keep_M.device)))
    return Segment(span.kept_start, span.kept_stop, work.run.weights, work.gradients, tuple(keys))


def _chunk_tokens(decoder: Decoder) -> int:
    """Choose how many tokens are one chunk: by the shape of the model alone, so that the same calls give the same sums.

    The way back costs twice the products of the way there, 4 x parameters of a layer per token; frozen weights have no
    gradient of their own.
    """
    if decoder.device.type != "cpu":
        return CHUNK_TOKENS_GPU
    parameters = sum(p.numel() for p in decoder.layers[0].parameters())
    return max(MIN_CHUNK_TOKENS, min(CHUNK_TOKENS_CPU, int(LAYER_FLOP_CPU / (4 * parameters))))
