"""A core without a model: deterministic numbers, real files, the same life cycle; it loads no torch."""

import hashlib
import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from trainyard.core import errors
from trainyard.engine import calls, cores, embed_inputs, types
from trainyard.engine.fake_embedding import DIMENSIONS, FakeEmbedding
from trainyard.engine.fake_prefixes import FakePrefixes
from trainyard.engine.waiting import MAX_QUEUE, Turnover

FIRST_LOSS: Final = 4.0
LOSS_FALL: Final = 0.8
"""Loss before step n is FIRST_LOSS * LOSS_FALL ** n, whatever the data."""


class FakeState(msgspec.Struct, frozen=True, kw_only=True):
    """What a fake run writes: `state.json` holds the durable one, `live.json` what memory held last."""

    run_id: str
    step: int
    has_gradients: bool
    directory: str


@dataclass
class _Run:
    spec: types.RunSpec
    step: int = 0
    durable_step: int = -1
    pending_tokens: int = 0
    gradients_lost: bool = False
    rolled_back: types.RolledBack | None = None

    def as_state(self) -> FakeState:
        return FakeState(
            run_id=self.spec.run_id,
            step=self.step,
            has_gradients=self.pending_tokens > 0,
            directory=self.spec.state_dir,
        )


@dataclass
class _Stream:
    request: types.GenerateRequest
    version: str
    prompt: list[int]
    limit: int
    position: int = 0
    found: int = 0


class FakePass:
    """One micro-step per call, so that tests see decode ticks between them."""

    def __init__(self, core: "FakeCore", wanted: list[calls.ForwardBackward]) -> None:
        self._core = core
        self._wanted = wanted
        self._steps_left = max(1, len(wanted))
        self._withdrawn: set[int] = set()

    def step(self) -> bool:
        """Compute nothing, for as long as the core's `micro_step_s`."""
        time.sleep(self._core.micro_step_s)
        self._steps_left -= 1
        return self._steps_left <= 0

    def results(self) -> Sequence[cores.PassResult]:
        """Apply the calls in their order."""
        packed = len(self._wanted)
        return [
            cores.withdrawn() if number in self._withdrawn else self._core.apply(call, packed)
            for number, call in enumerate(self._wanted)
        ]

    def withdraw(self, number: int) -> None:
        """Leave the call of this place out."""
        self._withdrawn.add(number)


class FakeCore:
    """Implements `cores.Core`.

    Args:
        name: How the catalog calls the model.
        vocab_size: Drawn tokens are below it.
        script: Token ids that every stream says instead of drawn ones; the stream then ends with a stop token, if it
        has one.
        token_s: Seconds that one decode tick takes.
        micro_step_s: Seconds that one training micro-step takes.
        max_positions: Longest prompt plus answer; an answer ends there with length.
        max_streams: Streams that draw at once, those that are parked not counted; more wait in order of arrival.
        max_queue: Streams that may wait; one more is refused.

    Attributes:
        holds_writes: No state is due while this is set, as for a large state within its 60 s.
    """

    def __init__(
        self,
        name: str = "fake/model",
        *,
        vocab_size: int = 256,
        script: Sequence[int] | None = None,
        token_s: float = 0.0,
        micro_step_s: float = 0.0,
        max_positions: int = 4096,
        max_streams: int = 1024,
        max_queue: int = MAX_QUEUE,
    ) -> None:
        self.micro_step_s = micro_step_s
        self.holds_writes = False
        self._name = name
        self._vocab_size = vocab_size
        self._script = script
        self._token_s = token_s
        self._max_positions = max_positions
        self._runs: dict[str, _Run] = {}
        self._max_streams = max_streams
        self._max_queue = max_queue
        self._streams: dict[str, _Stream] = {}
        self._queue: dict[str, _Stream] = {}
        self._parked: frozenset[str] = frozenset()  # in the last tick
        self._turnover = Turnover()
        self._prefixes = FakePrefixes()
        self._prompt_tokens = 0
        self._trained_tokens = 0
        self._sampled_tokens = 0
        self._started_at = time.time()

    def info(self) -> types.ModelInfo:
        """Describe the fake; `architecture` is "fake"."""
        return types.ModelInfo(
            name=self._name,
            architecture="fake",
            parameters=0,
            hidden_size=DIMENSIONS,
            layers=1,
            heads=1,
            kv_heads=1,
            vocab_size=self._vocab_size,
            max_positions=self._max_positions,
            dtype="float32",
            device="cpu",
            bf16_default=False,
            gradient_checkpointing_default=False,
        )

    def stats(self) -> types.EngineStats:
        """Count what is held and was done."""
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return types.EngineStats(
            open_runs=len(self._runs),
            active_streams=len(self._streams),
            queued_streams=len(self._queue),
            trained_tokens=self._trained_tokens,
            sampled_tokens=self._sampled_tokens,
            started_at=self._started_at,
            rss_bytes=pages * os.sysconf("SC_PAGE_SIZE"),
            prefix_hit_tokens=self._prefixes.hit_tokens,
            prompt_tokens=self._prompt_tokens,
        )

    # ------------------------------------------------------------------ runs
    def open_run(self, spec: types.RunSpec) -> types.RunState:
        """Open a run, restored from its directory."""
        if spec.run_id not in self._runs:
            self._runs[spec.run_id] = _restored(spec)
            self.write_state(self._runs[spec.run_id].as_state())
            self._runs[spec.run_id].durable_step = self._runs[spec.run_id].step
        return self.run_state(spec.run_id)

    def run_state(self, run_id: str) -> types.RunState:
        """Tell where a run stands."""
        run = self._run(run_id)
        return types.RunState(
            run_id=run_id,
            current_step=run.step,
            durable_step=run.durable_step,
            pending_tokens=run.pending_tokens,
            gradients_lost=run.gradients_lost,
            rolled_back=run.rolled_back,
            trainable_parameters=2 * DIMENSIONS * run.spec.lora_r * len(run.spec.target_modules),
            learning_rate=run.spec.learning_rate,
        )

    def close_run(self, run_id: str) -> types.RunState:
        """Write durably and forget."""
        run = self._run(run_id)
        run.pending_tokens = 0
        run.durable_step = self.write_state(run.as_state())
        _note_live(run)
        state = self.run_state(run_id)
        del self._runs[run_id]
        return state

    # -------------------------------------------------------------- training
    def begin_training(self, wanted: list[calls.ForwardBackward], /) -> FakePass:
        """Plan a pass."""
        return FakePass(self, wanted)

    def apply(self, call: calls.ForwardBackward, packed_runs: int) -> cores.PassResult:
        """Hold gradients for a call, or say why not."""
        try:
            run = self._run(call.run_id)
            self._check(call)
        except errors.TrainyardError as error:
            return error
        weight_sum = sum(sum(types.read_float32(datum.weights)) for datum in call.data)
        weighted = sum(sum(w > 0 for w in types.read_float32(datum.weights)) for datum in call.data)
        run.pending_tokens = weighted + (run.pending_tokens if call.accumulate else 0)
        run.gradients_lost = run.gradients_lost and call.accumulate
        tokens = sum(datum.length for datum in call.data)
        self._trained_tokens += tokens
        _note_live(run)
        loss = FIRST_LOSS * LOSS_FALL**run.step
        return types.ForwardBackwardResult(
            loss=loss,
            loss_sum=loss * weight_sum,
            weight_sum=weight_sum,
            tokens=tokens,
            grad_norm=1.0,
            grad_max=0.5,
            step=run.step,
            packed_runs=packed_runs,
            compute_s=self.micro_step_s * packed_runs,
        )

    def optim_step(self, run_id: str, learning_rate: float | None = None) -> types.OptimResult:
        """Count a step."""
        run = self._run(run_id)
        if run.gradients_lost:
            run.gradients_lost = False
            _note_live(run)
            raise errors.Conflict(
                "a crash took the gradients that were held; send forward_backward again", code="gradients_lost"
            )
        if not run.pending_tokens:
            raise errors.Conflict("no gradients are held; send forward_backward first", code="no_gradients")
        run.step += 1
        run.pending_tokens = 0
        run.rolled_back = None
        _note_live(run)
        return types.OptimResult(
            step=run.step,
            learning_rate=run.spec.learning_rate if learning_rate is None else learning_rate,
            grad_norm=1.0,
            weight_norm=float(run.step),
            durable_step=run.durable_step,
        )

    def save(self, run_id: str, mode: Literal["adapter", "merged"], directory: str) -> types.SaveResult:
        """Write a directory of PEFT's shape (adapter) or a model's (merged), a few hundred bytes large."""
        run = self._run(run_id)
        target = Path(directory)
        if target.exists():
            raise errors.Conflict(f"{target.name} exists already; save into a new directory", code="already_exists")
        building = target.with_name(target.name + ".partial")
        building.mkdir(parents=True)
        config, tensors, weights = (_adapter if mode == "adapter" else _merged)(run, self._name)
        (building / config[0]).write_text(json.dumps(config[1], indent=2), encoding="utf-8")
        save_file(tensors, building / weights)
        building.rename(target)
        files = {path.name: path.stat().st_size for path in sorted(target.iterdir())}
        return types.SaveResult(directory=directory, mode=mode, step=run.step, files=files)

    # ------------------------------------------------------------ durability
    def snapshot_if_due(self, run_id: str, *, force: bool = False) -> FakeState | None:
        """Copy the state when it is newer than the durable one."""
        run = self._run(run_id)
        is_due = run.step > run.durable_step and not self.holds_writes
        return run.as_state() if force or is_due else None

    def write_state(self, snapshot: FakeState) -> int:
        """Write `state.json`, atomically."""
        _write_json(Path(snapshot.directory) / "state.json", snapshot)
        return snapshot.step

    def mark_durable(self, run_id: str, step: int) -> None:
        """Note that a write is finished."""
        if (run := self._runs.get(run_id)) is not None:
            run.durable_step = max(run.durable_step, step)

    # ------------------------------------------------------------- embedding
    def begin_embedding(self, request: types.EmbedRequest) -> FakeEmbedding:
        """Take texts in."""
        texts = embed_inputs.read(request, self._vocab_size, self._max_positions, layers=1)
        return FakeEmbedding(request, texts, self._version(request.run_id, request.adapter_dir))

    # -------------------------------------------------------------- sampling
    def admit(self, request: types.GenerateRequest) -> None:
        """Take a stream in."""
        prompt = types.read_int32(request.prompt)
        if len(prompt) > self._max_positions:
            message = f"the prompt has {len(prompt)} tokens; the context of this model holds {self._max_positions}"
            raise errors.InvalidRequest(message, code="context_length_exceeded", param="prompt")
        self._check_tokens(prompt, "prompt")
        if request.sampling.grammar is not None and self._script is None:
            raise errors.InvalidRequest("drawn tokens of the fake follow no grammar", code="invalid_grammar")
        version = self._version(request.run_id, request.adapter_dir)
        self._join()
        if len(self._queue) >= self._max_queue:
            left = min((stream.limit - stream.position for stream in self._streams.values()), default=1)
            raise self._turnover.overloaded(len(self._queue), left * self._token_s)
        limit = min(request.sampling.max_tokens, max(1, self._max_positions - len(prompt)))
        self._queue[request.stream_id] = _Stream(request, version, prompt, limit)
        self._prompt_tokens += len(prompt)
        self._join()

    def _join(self) -> None:
        """Let streams that wait begin, as far as there are places."""
        places = self._max_streams - len(self._streams.keys() - self._parked)
        for stream_id in list(self._queue)[: max(0, places)]:
            stream = self._streams[stream_id] = self._queue.pop(stream_id)
            stream.found = self._prefixes.find(stream.request.prefix_scope, stream.version, stream.prompt)
            self._turnover.started()

    def cancel(self, stream_id: str) -> bool:
        """End a stream."""
        return (self._streams.pop(stream_id, None) or self._queue.pop(stream_id, None)) is not None

    def tick(self, parked: frozenset[str] = frozenset()) -> list[tuple[str, types.TokenEvent]]:
        """Draw one token for every stream that is not parked."""
        self._parked = parked
        self._join()
        if self._streams.keys() - parked:
            time.sleep(self._token_s)
        drawn = [(key, self._draw(stream)) for key, stream in self._streams.items() if key not in parked]
        for key, event in drawn:
            if event.finish is not None:
                del self._streams[key]
        self._sampled_tokens += len(drawn)
        return drawn

    def failures(self) -> list[tuple[str, errors.TrainyardError]]:
        """Give none: a fake stream has nothing that fails."""
        return []

    def _draw(self, stream: _Stream) -> types.TokenEvent:
        sampling = stream.request.sampling
        token = self._next_token(stream)
        finish: types.FinishReason | None = None
        stream.position += 1
        if token in sampling.stop_token_ids:
            finish = "stop"
        elif stream.position >= stream.limit or token < 0:
            finish = "length"
        logprob = -math.log(self._vocab_size) if sampling.logprobs >= 0 else math.nan
        top = tuple(((token + i) % self._vocab_size, logprob) for i in range(max(0, sampling.logprobs)))
        is_first = stream.position == 1 and sampling.prompt_logprobs
        scored = types.float32([math.nan, *[-1.0] * (len(stream.prompt) - 1)]) if is_first else b""
        return types.TokenEvent(
            token=token,
            logprob=logprob,
            top=top,
            finish=finish,
            weights_version=stream.version,
            prompt_logprobs=scored,
            cached_tokens=stream.found if stream.position == 1 else 0,
        )

    def _next_token(self, stream: _Stream) -> int:
        sampling = stream.request.sampling
        if self._script is None:
            seed = sampling.seed if sampling.temperature > 0 else None
            text = f"{stream.prompt}|{stream.version}|{seed}|{stream.position}"
            return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest()) % self._vocab_size
        if stream.position < len(self._script):
            return self._script[stream.position]
        return sampling.stop_token_ids[0] if sampling.stop_token_ids else -1

    # ----------------------------------------------------------------- checks
    def _run(self, run_id: str) -> _Run:
        if run_id not in self._runs:
            raise errors.NotFound(f"{run_id} is not open in this engine; open it first", code="run_not_open")
        return self._runs[run_id]

    def _version(self, run_id: str | None, adapter_dir: str | None) -> str:
        if run_id is not None:
            return f"{run_id}@{self._run(run_id).step}"
        if adapter_dir is None:
            return "base"
        if not (Path(adapter_dir) / "adapter_config.json").exists():
            raise errors.NotFound("there is no adapter in that directory", code="adapter_not_found")
        return Path(adapter_dir).name

    def _check(self, call: calls.ForwardBackward) -> None:
        if call.loss_fn != "causal_lm":
            raise errors.InvalidRequest(f"loss {call.loss_fn!r} is unknown; use causal_lm", param="loss_fn")
        if not call.data:
            raise errors.InvalidRequest("the batch is empty; send at least one sequence", param="batch")
        for datum in call.data:
            self._check_tokens(types.read_int32(datum.tokens), "batch")

    def _check_tokens(self, tokens: list[int], param: str) -> None:
        if not tokens:
            raise errors.InvalidRequest("a sequence is empty; send at least one token", param=param)
        if min(tokens) < 0 or max(tokens) >= self._vocab_size:
            raise errors.InvalidRequest(f"a token is outside 0..{self._vocab_size - 1}", param=param)


def _restored(spec: types.RunSpec) -> _Run:
    """Read a run back; what memory held beyond the durable state is reported as rolled back or lost."""
    directory = Path(spec.state_dir)
    directory.mkdir(parents=True, exist_ok=True)
    run = _Run(spec)
    durable, live = (_read_json(directory / name) for name in ("state.json", "live.json"))
    if durable is not None:
        run.step = durable.step
    if live is not None:
        run.gradients_lost = live.has_gradients
        if live.step > run.step:
            run.rolled_back = types.RolledBack(from_step=live.step, to_step=run.step)
    return run


def _note_live(run: _Run) -> None:
    _write_json(Path(run.spec.state_dir) / "live.json", run.as_state())


def _write_json(path: Path, state: FakeState) -> None:
    building = path.with_suffix(".partial")
    building.write_bytes(msgspec.json.encode(state))
    building.replace(path)


def _read_json(path: Path) -> FakeState | None:
    return msgspec.json.decode(path.read_bytes(), type=FakeState) if path.exists() else None


_Files = tuple[tuple[str, dict[str, object]], dict[str, NDArray[np.float32]], str]


def _adapter(run: _Run, name: str) -> _Files:
    rank = run.spec.lora_r
    config: dict[str, object] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": name,
        "r": rank,
        "lora_alpha": run.spec.lora_alpha,
        "lora_dropout": run.spec.lora_dropout,
        "target_modules": list(run.spec.target_modules),
        "bias": "none",
    }
    tensors: dict[str, NDArray[np.float32]] = {}
    for target in run.spec.target_modules:
        block = "self_attn" if target in ("q_proj", "k_proj", "v_proj", "o_proj") else "mlp"
        prefix = f"base_model.model.model.layers.0.{block}.{target}"
        tensors[f"{prefix}.lora_A.weight"] = np.full((rank, DIMENSIONS), run.step, dtype=np.float32)
        tensors[f"{prefix}.lora_B.weight"] = np.zeros((DIMENSIONS, rank), dtype=np.float32)
    return ("adapter_config.json", config), tensors, "adapter_model.safetensors"


def _merged(run: _Run, name: str) -> _Files:
    config: dict[str, object] = {"architectures": ["fake"], "hidden_size": DIMENSIONS, "_name_or_path": name}
    tensors: dict[str, NDArray[np.float32]] = {
        "model.embed_tokens.weight": np.full((1, DIMENSIONS), run.step, dtype=np.float32)
    }
    return ("config.json", config), tensors, "model.safetensors"
