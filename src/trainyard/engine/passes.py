"""Forward and backward of one packed chunk, layer by layer, pausing between layers so that decoding can run in between.

Shape letters: N tokens of the packed row, M kept rows, D hidden size.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from trainyard.engine.head import chunk_rows, loss_and_gradient
from trainyard.engine.kernels import rms_norm
from trainyard.engine.lora import Bound, Segment, bind, lora_linear
from trainyard.engine.losses import Loss, LossInputs
from trainyard.engine.model import Block, Decoder, causal_attention
from trainyard.engine.packing import Chunk

HEAD_FLOP = 1e9
"""Work of the output layer, there and back, between two pauses: some 15 ms at 80 GFLOP/s."""


@dataclass(frozen=True, slots=True)
class Precision:
    """How a pass computes.

    Attributes:
        compute: Of every matmul; adapters and their gradients stay float32.
        checkpointing: Keep only the input of each layer and compute the layer again on the way back.
    """

    compute: torch.dtype
    checkpointing: bool


@dataclass
class ChunkPass:
    """The state of one chunk between two layers.

    Attributes:
        segments: One per span of the chunk, over all rows; `kept` the same over the kept rows.
        losses: One per span.
        loss_sums: Filled by `run`: the sum of each span's loss.
    """

    decoder: Decoder
    chunk: Chunk
    segments: Sequence[Segment]
    kept: Sequence[Segment]
    losses: Sequence[Loss]
    precision: Precision
    loss_sums: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._anchor = torch.zeros((), device=self.decoder.device, requires_grad=True)
        cos_PE, sin_PE = self.decoder.rope.upto(max(n for _, n in self.chunk.lengths), self.decoder.device)
        positions_N = self.chunk.positions_N
        self._rotary = cos_PE[positions_N][:, None], sin_PE[positions_N][:, None]
        self._bound: dict[tuple[int, str], list[Bound]] = {}
        last = self.decoder.cfg.layers - 1
        for layer in range(last + 1):
            for group in ("qkv", "o", "gate_up", "down"):
                source = self.kept if layer == last and group != "qkv" else self.segments
                self._bound[layer, group] = bind(source, layer, group)

    def run(self) -> Iterator[None]:
        """Compute, yielding after every layer; gradients are complete in the segments' buffers when it ends."""
        blocks = self.decoder.layers
        inputs: list[Tensor] = []
        outputs: list[Tensor] = []
        x = self._embed()
        for block in blocks:
            inputs.append(x.detach().requires_grad_(block.layer > 0))
            with torch.set_grad_enabled(not self.precision.checkpointing):
                out = self._layer(block, inputs[-1])
            if not self.precision.checkpointing:
                outputs.append(out)
            x = out
            yield
        gradient = yield from self._loss(x.detach().requires_grad_())
        yield
        for block in reversed(blocks):
            source = inputs.pop()
            if self.precision.checkpointing:
                with torch.enable_grad():
                    outputs.append(self._layer(block, source))
            torch.autograd.backward(outputs.pop(), gradient)
            if source.grad is not None:
                gradient = source.grad
            yield

    def _embed(self) -> Tensor:
        residual = self.decoder.dtype if self.precision.compute != torch.float32 else torch.float32
        with torch.no_grad():
            x_ND: Tensor = self.decoder.embed(self.chunk.tokens_N)
        return x_ND.to(residual)

    def _layer(self, block: Block, x_ND: Tensor) -> Tensor:
        is_last = block.layer == self.decoder.cfg.layers - 1
        out: Tensor = block(x_ND, self._rotary, self._attend, self._project, self.chunk.keep_M if is_last else None)
        return out

    def _project(self, layer: int, group: str, linear: nn.Linear, x: Tensor) -> Tensor:
        bound = self._bound[layer, group]
        return lora_linear(x.to(self.precision.compute), linear.weight, linear.bias, bound, self._anchor)

    def _attend(self, layer: int, q_NHE: Tensor, k_NKE: Tensor, v_NKE: Tensor) -> Tensor:
        window, dtype = self.decoder.cfg.window(layer), self.precision.compute
        rows = [count * length for count, length in self.chunk.lengths]
        parts = zip(*(torch.split(t.to(dtype), rows) for t in (q_NHE, k_NKE, v_NKE)), strict=True)
        out = []
        for (count, length), (q, k, v) in zip(self.chunk.lengths, parts, strict=True):
            q_BTHE, k_BTKE, v_BTKE = (t.unflatten(0, (count, length)) for t in (q, k, v))
            out.append(causal_attention(q_BTHE, k_BTKE, v_BTKE, window).reshape(count * length, -1))
        return out[0] if len(out) == 1 else torch.cat(out)

    def _loss(self, x_MD: Tensor) -> Generator[None, None, Tensor]:
        """Fill loss_sums and give the gradient of the summed losses in the last layer's output; pauses like `run`."""
        cfg = self.decoder.cfg
        with torch.enable_grad():
            h_MD = rms_norm(x_MD, self.decoder.norm, cfg.rms_eps).to(self.precision.compute)
        gradient_MD = torch.empty_like(h_MD)
        count = min(chunk_rows(cfg.vocab_size), max(16, int(HEAD_FLOP / (4 * self.decoder.output.numel()))))
        for span, loss in zip(self.chunk.spans, self.losses, strict=True):
            parts = []
            for start in range(span.kept_start, span.kept_stop, count):
                rows = slice(start, min(span.kept_stop, start + count))
                inputs = LossInputs(self.chunk.weights_M[rows])
                loss_m, gradient_MD[rows] = loss_and_gradient(
                    h_MD.detach()[rows], self.decoder.output, self.chunk.targets_M[rows], inputs, loss
                )
                parts.append(loss_m.double().sum())
                yield
            self.loss_sums.append(float(sum(parts)))
        torch.autograd.backward(h_MD, gradient_MD)
        if x_MD.grad is None:
            raise AssertionError("the norm is differentiable in its input")
        return x_MD.grad
