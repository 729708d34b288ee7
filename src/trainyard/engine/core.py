"""The whole engine behind one synchronous class: what a loop drives from its one compute thread."""

import os
import time
from pathlib import Path
from typing import Literal

import torch

from trainyard.core import errors
from trainyard.engine import checkpoint, durability, loading, types
from trainyard.engine.calls import ForwardBackward
from trainyard.engine.durability import StateSnapshot
from trainyard.engine.embedding import EmbeddingPass
from trainyard.engine.grammar import Grammars
from trainyard.engine.sampler import Sampler
from trainyard.engine.trainer import Trainer, TrainingPass
from trainyard.engine.waiting import MAX_QUEUE

__all__ = ["EngineCore", "StateSnapshot", "TrainingPass"]


class EngineCore:
    """One base model in memory, the runs that train on it and the streams that it decodes.

    Not thread safe: every method belongs to one compute thread, except `write_state`, which any thread may call.

    A loop does, forever: take waiting calls; `admit` and `cancel` streams; `tick` while `has_streams`;
    `begin_training` of the waiting calls and one `TrainingPass.step` between two ticks; answer each call when its
    pass is done. After `optim_step` it asks `snapshot_if_due`, hands the snapshot to `write_state` in another thread
    and reports back with `mark_durable`.

    Args:
        model_dir: A Hugging Face directory (config.json, safetensors).
        name: How the catalog calls the model.
        device: "cpu", "cuda", "cuda:0" …
        threads: Threads of torch inside one operation; None leaves torch's own choice.
        kv_max_bytes: Memory for keys and values of all streams and of kept beginnings; None takes 2 GiB on a CPU and
            half of what the weights leave on an accelerator.
        max_queue: Streams that may wait; one more is refused.

    Raises:
        errors.ConfigError: The directory holds no model that this engine can run.
    """

    def __init__(
        self,
        model_dir: Path,
        name: str,
        *,
        device: str = "cpu",
        threads: int | None = None,
        kv_max_bytes: int | None = None,
        max_queue: int = MAX_QUEUE,
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self._model_dir = Path(model_dir)
        self._name = name
        self._device = torch.device(device)
        dtype = torch.float32 if self._device.type == "cpu" else torch.bfloat16
        self._decoder = loading.load_decoder(self._model_dir, dtype, self._device)
        self._trainer = Trainer(self._decoder)
        self._grammars = Grammars(self._model_dir, self._decoder.cfg.vocab_size)
        self._sampler = Sampler(self._decoder, self._grammars, kv_max_bytes=kv_max_bytes, max_queue=max_queue)
        self._started_at = time.time()

    def prepare(self) -> None:
        """Do now what would hold up streams later: read the vocabulary for grammars."""
        self._grammars.prepare()

    # ------------------------------------------------------------ what it is
    def info(self) -> types.ModelInfo:
        """Describe the base model."""
        cfg = self._decoder.cfg
        on_gpu = self._device.type != "cpu"
        return types.ModelInfo(
            name=self._name,
            architecture=cfg.architecture,
            parameters=sum(p.numel() for p in self._decoder.parameters()),
            hidden_size=cfg.hidden_size,
            layers=cfg.layers,
            heads=cfg.heads,
            kv_heads=cfg.kv_heads,
            vocab_size=cfg.vocab_size,
            max_positions=cfg.max_positions,
            dtype=str(self._decoder.dtype).removeprefix("torch."),
            device=str(self._device),
            bf16_default=on_gpu,
            gradient_checkpointing_default=on_gpu,
        )

    def stats(self) -> types.EngineStats:
        """Count what the engine holds and did."""
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return types.EngineStats(
            open_runs=len(self._trainer.runs),
            active_streams=self._sampler.active,
            queued_streams=self._sampler.queued,
            trained_tokens=self._trainer.trained_tokens,
            sampled_tokens=self._sampler.sampled_tokens,
            started_at=self._started_at,
            rss_bytes=pages * os.sysconf("SC_PAGE_SIZE"),
            kv_bytes=self._sampler.kv_bytes,
            kv_max_bytes=self._sampler.kv_max_bytes,
            prefix_hit_tokens=self._sampler.prefix_hit_tokens,
            prompt_tokens=self._sampler.prompt_tokens,
        )

    # ------------------------------------------------------------------ runs
    def open_run(self, spec: types.RunSpec) -> types.RunState:
        """Open a run, restored from `spec.state_dir` when that holds a state; a second call is the same run, unchanged.

        Raises:
            errors.InvalidRequest: The spec asks for what the model cannot do.
            errors.Conflict: code `state_mismatch`: the directory holds a run of another shape.
        """
        return self._trainer.open_run(spec).state()

    def run_state(self, run_id: str) -> types.RunState:
        """Tell where a run stands; errors.NotFound (code `run_not_open`) for one that is not open."""
        return self._trainer.run(run_id).state()

    def close_run(self, run_id: str) -> types.RunState:
        """Write the state durably (blocking) and forget the run with its gradients; live streams go on to their end."""
        run = self._trainer.run(run_id)
        durability.write_state(run.snapshot())
        run.durable_step = run.step
        run.drop_gradients()
        self._trainer.close_run(run_id)
        return run.state()

    # -------------------------------------------------------------- training
    def begin_training(self, calls: list[ForwardBackward]) -> TrainingPass:
        """Plan the waiting calls of any number of runs as one pass; nothing is computed yet.

        A call that cannot be done (unknown run or loss, bad token, too long) does not disturb the others: its error
        stands in its place in `TrainingPass.results`. Two calls of one run are applied in the given order. Do not
        call `optim_step`, `close_run` or `begin_training` for a run that is inside an unfinished pass.

        Returns:
            `.step() -> bool` computes for about 25 ms or one layer, whichever is longer, and is true when all is
            done; `.results()` then has one ForwardBackwardResult or TrainyardError per call, in order. Dropping an
            unfinished pass changes nothing.
        """
        return self._trainer.begin(calls)

    def optim_step(self, run_id: str, learning_rate: float | None = None) -> types.OptimResult:
        """Apply and clear the held gradients; streams that are running keep the weights they began with.

        Raises:
            errors.Conflict: code `no_gradients`, or `gradients_lost` once after a crash took them.
        """
        return self._trainer.optim_step(run_id, learning_rate)

    def save(self, run_id: str, mode: Literal["adapter", "merged"], directory: str) -> types.SaveResult:
        """Write the weights in PEFT's (adapter) or transformers' (merged) format; complete and verified, or absent.

        Raises:
            errors.Conflict: code `already_exists`: the directory is there already.
        """
        run, target = self._trainer.run(run_id), Path(directory)
        if mode == "adapter":
            files = checkpoint.save_adapter(run.weights, target, self._name, run.version)
        else:
            files = checkpoint.save_merged(self._decoder, run.weights, target, self._model_dir)
        return types.SaveResult(directory=str(target), mode=mode, step=run.step, files=files)

    # ------------------------------------------------------------ durability
    def snapshot_if_due(self, run_id: str, *, force: bool = False) -> StateSnapshot | None:
        """Copy the state of a run when it should be written: after each step under 16 MB, otherwise every 60 s.

        Returns:
            None when nothing changed since the last durable step, or when a larger state was written less than 60 s ago
            (force leaves only the first reason).
        """
        run = self._trainer.run(run_id)
        return run.snapshot() if run.is_write_due(time.monotonic(), force=force) else None

    @staticmethod
    def write_state(snapshot: StateSnapshot) -> int:
        """Write a snapshot to disk, crash-safe; returns its step. Any thread; one write per run at a time."""
        durability.write_state(snapshot)
        return snapshot.step

    def mark_durable(self, run_id: str, step: int) -> None:
        """Record in memory that `write_state` finished for this step; a run that was closed meanwhile is ignored."""
        run = self._trainer.runs.get(run_id)
        if run is not None:
            run.durable_step = max(run.durable_step, step)

    # ------------------------------------------------------------- embedding
    def begin_embedding(self, request: types.EmbedRequest) -> EmbeddingPass:
        """Plan the computation of vectors with the weights of this moment; it must be closed, done or not.

        Raises:
            errors.InvalidRequest: A text or the layer is not one of this model.
            errors.NotFound: As `admit`.
        """
        if request.run_id is not None:
            run = self._trainer.run(request.run_id)
            return EmbeddingPass(self._decoder, request, run.weights, run.version)
        if request.adapter_dir is not None:
            return EmbeddingPass(self._decoder, request, *self._sampler.saved_adapter(Path(request.adapter_dir)))
        return EmbeddingPass(self._decoder, request)

    # -------------------------------------------------------------- sampling
    def admit(self, request: types.GenerateRequest) -> None:
        """Take a stream in, with the weights of this moment; its first token comes with a later `tick`.

        Raises:
            errors.InvalidRequest: code `context_length_exceeded`, a token outside the vocabulary, a sampling
            parameter out of bounds.
            errors.NotFound: code `run_not_open`, or `adapter_not_found` for a directory without an adapter.
            errors.Conflict: code `stream_exists`.
        """
        if request.run_id is not None:
            run = self._trainer.run(request.run_id)
            self._sampler.admit(request, run.weights, run.version)
        elif request.adapter_dir is not None:
            self._sampler.admit(request, *self._sampler.saved_adapter(Path(request.adapter_dir)))
        else:
            self._sampler.admit(request)

    def cancel(self, stream_id: str) -> bool:
        """End a stream at once, without a further event; false when there is none of that id."""
        return self._sampler.cancel(stream_id)

    def tick(self, parked: frozenset[str] = frozenset()) -> list[tuple[str, types.TokenEvent]]:
        """Decode one token for every stream that is not parked and read a bounded part of the waiting prompts.

        Returns:
            (stream_id, event) pairs; a stream whose event has `finish` set is gone. Empty while a long prompt is read.
        """
        return self._sampler.tick(parked)

    def failures(self) -> list[tuple[str, errors.TrainyardError]]:
        """Take the streams that ended with an error since the last call; they are gone and had no last event."""
        return self._sampler.failures()

    @property
    def has_streams(self) -> bool:
        """Whether `tick` has work: a stream that decodes or waits."""
        return self._sampler.active + self._sampler.queued > 0
