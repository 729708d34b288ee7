"""Reading prompts into the cache: stretches of several prompts as one packed row.

Shape letters: N tokens of the packed row, T tokens of one stretch, M rows that leave the last layer, D hidden size,
H query heads, K key-value heads, E head size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
import torch.nn.functional as fn
from torch import Tensor, nn

from trainyard.engine.adapters import AdapterTensors
from trainyard.engine.frozen_maps import FrozenMaps
from trainyard.engine.head import logprobs
from trainyard.engine.kernels import rms_norm
from trainyard.engine.kv_cache import KvCache
from trainyard.engine.lora import apply_adapter
from trainyard.engine.model import Decoder, causal_attention
from trainyard.engine.stream import Stream


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """Tokens [start, stop) of the text of one stream, to be read now; `start` is the first of a page."""

    stream: Stream
    start: int
    stop: int

    @property
    def length(self) -> int:
        """Tokens to read."""
        return self.stop - self.start

    @property
    def is_last(self) -> bool:
        """Whether the text is complete after it."""
        return self.stop == self.stream.goal

    @property
    def draws(self) -> bool:
        """Whether the first token is drawn after it."""
        return self.is_last and not self.stream.drawn


class Prefill:
    """One pass over the stretches; every stream must have pages for its text."""

    def __init__(self, decoder: Decoder, maps: FrozenMaps, cache: KvCache, stretches: Sequence[Stretch]) -> None:
        self._decoder, self._maps, self._cache, self._stretches = decoder, maps, cache, stretches
        self._last_layer = decoder.cfg.layers - 1
        self._lengths = [s.length for s in stretches]
        self._kept = [_kept(s) for s in stretches]

    def run(self) -> Tensor:
        """Fill the cache; gives the final hidden states (M, D) of the last token of each stretch that draws, in order.

        Prompt log-probabilities are appended to the streams that ask for them.
        """
        device = self._decoder.device
        tokens_N = torch.tensor([t for s in self._stretches for t in s.stream.text[s.start : s.stop]], device=device)
        positions_N = torch.cat([torch.arange(s.start, s.stop) for s in self._stretches]).to(device)
        cos_PE, sin_PE = self._decoder.rope.upto(max(s.stop for s in self._stretches), device)
        rotary = cos_PE[positions_N][:, None], sin_PE[positions_N][:, None]
        starts = torch.tensor([0, *self._lengths]).cumsum(0)[:-1].tolist()
        keep_M = torch.tensor(
            [start + i for start, kept in zip(starts, self._kept, strict=True) for i in kept], dtype=torch.int64
        ).to(device)
        x: Tensor = self._decoder.embed(tokens_N)
        for block in self._decoder.layers:
            x = block(x, rotary, self._attend, self._project, keep_M if block.layer == self._last_layer else None)
        for s in self._stretches:
            self._cache.advance(s.stream.blocks, s.stream.text, s.stop)
        return self._finish(rms_norm(x, self._decoder.norm, self._decoder.cfg.rms_eps))

    def _finish(self, h_MD: Tensor) -> Tensor:
        out = [h_MD[:0]]
        for s, mine in zip(self._stretches, torch.split(h_MD, [len(k) for k in self._kept]), strict=True):
            if _is_scored(s):
                targets = torch.tensor(s.stream.text[s.start + 1 : s.stop + 1], device=h_MD.device)
                s.stream.prompt_logprobs += logprobs(mine[: len(targets)], self._decoder.output, targets).tolist()
            if s.draws:
                out.append(mine[-1:])
        return torch.cat(out)

    def _project(self, layer: int, group: str, linear: nn.Linear, x: Tensor) -> Tensor:
        y = self._maps.apply(layer, group, linear, x)
        is_cut = layer == self._last_layer and group != "qkv"
        lengths = [len(kept) for kept in self._kept] if is_cut else self._lengths
        at = 0
        for weights, count in _neighbours(self._stretches, lengths):
            if weights is not None and count:
                apply_adapter(weights, layer, group, x[at : at + count], y[at : at + count])
            at += count
        return y

    def _attend(self, layer: int, q_NHE: Tensor, k_NKE: Tensor, v_NKE: Tensor) -> Tensor:
        parts = zip(*(torch.split(t, self._lengths) for t in (q_NHE, k_NKE, v_NKE)), strict=True)
        out = [self._attend_one(layer, s, *part) for s, part in zip(self._stretches, parts, strict=True)]
        return torch.cat(out)

    def _attend_one(self, layer: int, s: Stretch, q_THE: Tensor, k_TKE: Tensor, v_TKE: Tensor) -> Tensor:
        self._cache.write(layer, s.stream.blocks, k_TKE, v_TKE)
        window = self._decoder.cfg.window(layer)
        if s.start == 0:
            return causal_attention(q_THE[None], k_TKE[None], v_TKE[None], window)[0].flatten(1)
        keys, values = self._cache.read(layer, s.stream.blocks, s.stop)
        distance = torch.arange(s.start, s.stop, device=q_THE.device)[:, None] - torch.arange(
            s.stop, device=q_THE.device
        )
        allowed = (distance >= 0) & (distance < (window or s.stop))
        q = q_THE[None].transpose(1, 2)
        grouped = q.shape[1] != keys.shape[1]
        out = fn.scaled_dot_product_attention(q, keys, values, attn_mask=allowed, enable_gqa=grouped)
        return out[0].transpose(0, 1).flatten(1)


def _kept(s: Stretch) -> range:
    """Name the rows of a stretch that must leave the last layer."""
    if _is_scored(s):
        return range(s.length)
    return range(s.length - 1, s.length) if s.draws else range(0)


def _is_scored(s: Stretch) -> bool:
    """Whether log-probabilities of the prompt are wanted; what is read again after an interruption has them."""
    return s.stream.sampling.prompt_logprobs and not s.stream.drawn


def _neighbours(stretches: Sequence[Stretch], lengths: Sequence[int]) -> Iterator[tuple[AdapterTensors | None, int]]:
    """Join neighbouring stretches of one adapter: (adapter, rows)."""
    pairs = zip(stretches, lengths, strict=True)
    for _, group in groupby(pairs, key=lambda pair: id(pair[0].stream.weights)):
        found = list(group)
        yield found[0][0].stream.weights, sum(length for _, length in found)
