"""Texts to vectors: the hidden states of one layer, pooled, computed between decode ticks in bounded steps.

Shape letters: N tokens of the texts of a chunk side by side, C texts of one length, T that length, D hidden size,
H query heads, K key-value heads, E head size.
"""

from collections.abc import Generator, Iterator, Sequence
from itertools import groupby
from typing import Final

import torch
from torch import Tensor, nn

from trainyard.engine import embed_inputs, types
from trainyard.engine.adapters import AdapterTensors
from trainyard.engine.kernels import rms_norm
from trainyard.engine.lora import apply_adapter
from trainyard.engine.model import Decoder, causal_attention

STEP_FLOP_CPU, STEP_FLOP_GPU = 4e9, 2e13
"""Work of one step, on one layer: about 0.05 s at the 80 GFLOP/s that one core of the reference machine reaches."""
MIN_CHUNK_TOKENS: Final = 64


class EmbeddingPass:
    """The computation of one request; a step reads one layer of one chunk of texts.

    Args:
        decoder: Read only.
        request: Checked here.
        weights: Of the adapter; None = base model. They stay as they are until the pass is closed.
        version: Of the weights, for the answer.

    Raises:
        errors.InvalidRequest: A text is empty, too long or holds unknown ids, or there is no such layer.
    """

    def __init__(
        self,
        decoder: Decoder,
        request: types.EmbedRequest,
        weights: AdapterTensors | None = None,
        version: str = "base",
    ) -> None:
        cfg = decoder.cfg
        self._decoder, self._request, self._weights, self._version = decoder, request, weights, version
        self._texts = embed_inputs.read(request, cfg.vocab_size, cfg.max_positions, cfg.layers)
        self._layers = cfg.layers if request.layer == -1 else request.layer
        on_cpu = decoder.device.type == "cpu"
        flop_per_token = 2 * sum(p.numel() for p in decoder.layers[0].parameters())
        self._chunk_tokens = max(MIN_CHUNK_TOKENS, int((STEP_FLOP_CPU if on_cpu else STEP_FLOP_GPU) / flop_per_token))
        self._vectors: dict[int, Tensor] = {}
        self._steps = self._run()
        if weights is not None:
            weights.readers += 1

    def step(self) -> bool:
        """Compute one step; true when all is done."""
        with torch.no_grad():
            return next(self._steps, True)

    def result(self) -> types.EmbedResult:
        """Give the vectors once `step` was true."""
        return types.EmbedResult(
            vectors=tuple(
                self._vectors[number].cpu().numpy().astype("<f4").tobytes() for number in range(len(self._texts))
            ),
            dimensions=self._decoder.cfg.hidden_size,
            tokens=sum(map(len, self._texts)),
            weights_version=self._version,
        )

    def close(self) -> None:
        """Let go of the weights, done or not; a second call does nothing."""
        if self._weights is not None:
            self._weights.readers -= 1
            self._weights = None
        self._steps.close()

    def _run(self) -> Generator[bool]:
        order = sorted(range(len(self._texts)), key=lambda number: len(self._texts[number]))
        for numbers in _cut(order, [len(text) for text in self._texts], self._chunk_tokens):
            yield from self._read(numbers)

    def _read(self, numbers: Sequence[int]) -> Generator[bool]:
        decoder = self._decoder
        lengths = [len(self._texts[number]) for number in numbers]
        tokens_N = torch.cat([torch.tensor(self._texts[number]) for number in numbers]).to(decoder.device)
        positions_N = torch.cat([torch.arange(length) for length in lengths]).to(decoder.device)
        cos_PE, sin_PE = decoder.rope.upto(max(lengths), decoder.device)
        rotary = cos_PE[positions_N][:, None], sin_PE[positions_N][:, None]
        attend = _Attention(decoder, lengths)
        x_ND: Tensor = decoder.embed(tokens_N)
        for block in decoder.layers[: self._layers]:
            x_ND = block(x_ND, rotary, attend, self._project)
            yield False
        if self._layers == len(decoder.layers):
            x_ND = rms_norm(x_ND, decoder.norm, decoder.cfg.rms_eps)
        for number, states_TD in zip(numbers, torch.split(x_ND, lengths), strict=True):
            self._vectors[number] = self._pooled(states_TD.float())

    def _pooled(self, states_TD: Tensor) -> Tensor:
        match self._request.pooling:
            case "mean":
                vector_D = states_TD.mean(0)
            case "last_token":
                vector_D = states_TD[-1]
            case "cls_token":
                vector_D = states_TD[0]
        return nn.functional.normalize(vector_D, dim=0) if self._request.normalize else vector_D

    def _project(self, layer: int, group: str, linear: nn.Linear, x_ND: Tensor) -> Tensor:
        y_NO: Tensor = linear(x_ND)
        if self._weights is not None:
            apply_adapter(self._weights, layer, group, x_ND, y_NO)
        return y_NO


class _Attention:
    """Each text attends to itself; neighbours of one length do so together."""

    def __init__(self, decoder: Decoder, lengths: Sequence[int]) -> None:
        self._decoder = decoder
        self._groups = [(length, len(list(same))) for length, same in groupby(lengths)]

    def __call__(self, layer: int, q_NHE: Tensor, k_NKE: Tensor, v_NKE: Tensor) -> Tensor:
        window = self._decoder.cfg.window(layer)
        sizes = [length * texts for length, texts in self._groups]
        parts = zip(self._groups, *(torch.split(one, sizes) for one in (q_NHE, k_NKE, v_NKE)), strict=True)
        out = []
        for (length, texts), *qkv in parts:
            q_CTHE, k_CTKE, v_CTKE = (one.unflatten(0, (texts, length)) for one in qkv)
            out.append(causal_attention(q_CTHE, k_CTKE, v_CTKE, window).flatten(0, 1).flatten(1))
        return torch.cat(out)


def _cut(order: Sequence[int], lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Cut a list of texts into chunks of at most so many tokens; a longer text is a chunk of its own."""
    chunk: list[int] = []
    tokens = 0
    for number in order:
        if chunk and tokens + lengths[number] > most:
            yield chunk
            chunk, tokens = [], 0
        chunk.append(number)
        tokens += lengths[number]
    yield chunk
