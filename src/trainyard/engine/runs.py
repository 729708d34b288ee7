"""One training run inside the engine: its weights, held gradients, optimiser and counters."""

import time

import torch

from trainyard.core import errors
from trainyard.engine import adapters, durability, optimisers, schedules, types
from trainyard.engine.adapters import AdapterLayout, AdapterSpec, AdapterTensors
from trainyard.engine.config import ModelConfig

EAGER_STATE_BYTES = 16 << 20
"""States up to this size are written after each step, larger ones every `LAZY_WRITE_S`."""
LAZY_WRITE_S = 60.0


class Run:
    """An open run; everything that `forward_backward` and `optim_step` read or change.

    Gradients are held as the sum over weighted tokens with the sum of their weights, and divided when they are
    applied: so unequal micro-batches add up to exactly one batch.

    Raises:
        errors.InvalidRequest: The spec asks for what the model cannot do.
        errors.Conflict: code `state_mismatch`, when `state_dir` holds a run of another shape.
    """

    def __init__(self, cfg: ModelConfig, spec: types.RunSpec, device: torch.device) -> None:
        schedules.check(spec.lr_scheduler, spec.lr_total_steps, spec.warmup_steps)
        self.spec, self.device = spec, device
        self.adapter = AdapterLayout(cfg, adapter_spec(spec))
        self.weights = adapters.initial(self.adapter, spec.seed, device)
        self.optimiser = optimisers.make(spec.optimizer, self.weights.flat)
        self.step = self.calls = self.durable_step = 0
        self.held: AdapterTensors | None = None
        self.pending_weight, self.pending_tokens = 0.0, 0
        self.gradients_lost = False
        self.rolled_back: types.RolledBack | None = None
        self._spare: AdapterTensors | None = None
        self._written_at = 0.0
        self._restore()
        self._marker = durability.ProgressMarker(durability.directory(spec))

    @property
    def version(self) -> str:
        """Name the present weights, as on `TokenEvent.weights_version`."""
        return f"{self.spec.run_id}@{self.step}"

    def state(self) -> types.RunState:
        """Tell where the run stands."""
        return types.RunState(
            run_id=self.spec.run_id,
            current_step=self.step,
            durable_step=self.durable_step,
            pending_tokens=self.pending_tokens,
            gradients_lost=self.gradients_lost,
            rolled_back=self.rolled_back,
            trainable_parameters=self.adapter.size,
            learning_rate=schedules.learning_rate(self.spec, self.step),
        )

    # ------------------------------------------------------------- gradients
    def take_buffer(self) -> AdapterTensors:
        """Lend a zeroed buffer for the gradients of one call."""
        buffer, self._spare = self._spare, None
        if buffer is None:
            return adapters.zeros(self.adapter, self.device)
        buffer.flat.zero_()
        return buffer

    def commit(self, gradients: AdapterTensors, weight_sum: float, tokens: int, *, accumulate: bool) -> None:
        """Add the summed gradients of one call to the held ones, or put them in their place.

        Raises:
            OSError: The marker cannot be written; nothing has changed.
        """
        self._marker.write(self.step, pending=True)
        if accumulate and self.held is not None:
            self.held.flat.add_(gradients.flat)
            self._spare = gradients
            self.pending_weight += weight_sum
            self.pending_tokens += tokens
        else:
            self._spare, self.held = self.held, gradients
            self.pending_weight, self.pending_tokens = weight_sum, tokens
        if not accumulate:
            self.gradients_lost = False  # nothing that a crash took is missing from a fresh start
        self.calls += 1

    def close(self) -> None:
        """Let go of the files of the run."""
        self._marker.close()

    def drop_gradients(self) -> None:
        """Forget what is held."""
        self.held, self.pending_weight, self.pending_tokens = None, 0.0, 0
        self._marker.write(self.step, pending=False)

    def gradient_norms(self) -> tuple[float, float]:
        """Give the L2 norm and the largest entry of the mean gradient; (0, 0) when none is held."""
        if self.held is None:
            return 0.0, 0.0
        flat = self.held.flat
        return float(flat.norm()) / self.pending_weight, float(flat.abs().max()) / self.pending_weight

    # ------------------------------------------------------------------ step
    def optim_step(self, learning_rate: float | None) -> types.OptimResult:
        """Apply and clear the held gradients; raises as `Engine.optim_step`."""
        self._check_gradients()
        rate = schedules.learning_rate(self.spec, self.step) if learning_rate is None else learning_rate
        norm, _ = self.gradient_norms()
        held = self.held
        if held is None:
            raise AssertionError("checked above")
        self.weights = self.weights.successor()
        mean = held.flat.div_(self.pending_weight)
        self.optimiser.step(
            self.weights.flat, mean, learning_rate=rate, weight_decay=self.spec.weight_decay, step=self.step + 1
        )
        self.step += 1
        self._spare, self.rolled_back = held, None
        self.drop_gradients()
        return types.OptimResult(
            step=self.step,
            learning_rate=rate,
            grad_norm=norm,
            weight_norm=float(self.weights.flat.norm()),
            durable_step=self.durable_step,
        )

    def _check_gradients(self) -> None:
        if self.gradients_lost:
            self.gradients_lost = False
            if self.held is None:
                self._marker.write(self.step, pending=False)
            raise errors.Conflict(
                "the gradients of this run were lost when the engine died; run forward_backward again",
                code="gradients_lost",
            )
        if self.held is None:
            raise errors.Conflict("this run holds no gradients; run forward_backward first", code="no_gradients")

    # ------------------------------------------------------------ durability
    def is_write_due(self, now_s: float, *, force: bool) -> bool:
        """Whether the present step should be written now; now_s is monotonic time, force leaves out the size."""
        if self.durable_step >= self.step:
            return False
        size = sum(t.numel() * t.element_size() for t in (self.weights.flat, *self.optimiser.state().values()))
        if force or size <= EAGER_STATE_BYTES or now_s - self._written_at >= LAZY_WRITE_S:
            self._written_at = now_s
            return True
        return False

    def snapshot(self) -> durability.StateSnapshot:
        """Copy everything that a later process needs to go on exactly here (held gradients excepted)."""
        tensors = {"adapter": self.weights.flat} | {f"optimiser.{k}": v for k, v in self.optimiser.state().items()}
        copies = {name: tensor.to("cpu", copy=True) for name, tensor in tensors.items()}
        return durability.StateSnapshot(durability.directory(self.spec), self.spec, self.step, self.calls, copies)

    def _restore(self) -> None:
        directory = durability.directory(self.spec)
        self.gradients_lost, seen_step = durability.read_progress(directory)
        saved = durability.load_state(directory)
        if saved is not None:
            _check_shape(saved.spec, self.spec)
            optimiser = {k.removeprefix("optimiser."): v for k, v in saved.tensors.items() if k != "adapter"}
            self._check_sizes(saved.tensors.get("adapter"), optimiser)
            self.weights = AdapterTensors(self.adapter, saved.tensors["adapter"].to(self.device))
            self.optimiser.load(optimiser)
            self.step, self.calls, self.durable_step = saved.step, saved.calls, saved.step
        if seen_step > self.step:
            self.rolled_back = types.RolledBack(from_step=seen_step, to_step=self.step)
        self._written_at = time.monotonic()

    def _check_sizes(self, adapter: torch.Tensor | None, optimiser: dict[str, torch.Tensor]) -> None:
        wanted = {name: tensor.shape for name, tensor in self.optimiser.state().items()}
        found = {name: tensor.shape for name, tensor in optimiser.items()}
        if adapter is None or adapter.shape != self.weights.flat.shape or found != wanted:
            raise errors.Conflict(
                f"the stored run does not fit this model, whose adapter has {self.adapter.size} numbers",
                code="state_mismatch",
            )


def adapter_spec(spec: types.RunSpec) -> AdapterSpec:
    """Pick what shapes the adapter."""
    return AdapterSpec(spec.lora_r, spec.lora_alpha, spec.lora_dropout, spec.target_modules)


def _check_shape(saved: types.RunSpec, asked: types.RunSpec) -> None:
    for field in ("run_id", "lora_r", "lora_alpha", "target_modules", "optimizer", "seed"):
        before, now = getattr(saved, field), getattr(asked, field)
        if before != now:
            raise errors.Conflict(
                f"the stored run has {field} = {before!r}, not {now!r}", code="state_mismatch", param=field
            )
