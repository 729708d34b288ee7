"""Continuous batching: streams join, decode together and leave, each with its own adapter, settings and seed."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from trainyard.core import errors
from trainyard.engine import peft_files, prefill, sampling, types
from trainyard.engine.adapters import AdapterTensors
from trainyard.engine.decode import DecodeStep
from trainyard.engine.frozen_maps import FrozenMaps
from trainyard.engine.grammar import Grammars
from trainyard.engine.grammar_vocabulary import Words
from trainyard.engine.kv_cache import Blocks, KvCache
from trainyard.engine.model import Decoder
from trainyard.engine.pages import PAGE_TOKENS
from trainyard.engine.prefixes import Chain
from trainyard.engine.row_adapters import RowAdapters
from trainyard.engine.schedule import Schedule
from trainyard.engine.stream import Stream
from trainyard.engine.waiting import MAX_QUEUE, Turnover

MAX_STREAMS_CPU, MAX_STREAMS_GPU = 64, 256
"""Streams that decode together; more wait in order of arrival."""
KV_BYTES_CPU, KV_SHARE_GPU = 2 << 30, 0.5
"""Memory for pages where none is named: on a CPU, and as a share of what the weights leave free on an accelerator."""
PREFILL_FLOP_CPU, PREFILL_FLOP_GPU = 2e9, 1e13
"""Work on prompts between two tokens of others: about 25 ms at the 80 GFLOP/s that one core of the reference machine
reaches, as long as a micro-step of training."""
IDLE_FACTOR = 32
"""As much more is read at once when no stream decodes, since then nobody waits for a next token."""
SAVED_ADAPTERS = 16
"""Adapters from directories that stay in memory, least recently used first out."""


@dataclass(frozen=True, slots=True)
class _Saved:
    stamp: int
    weights: AdapterTensors
    version: str


class Sampler:
    """The streams over one decoder; weights are read, never changed."""

    def __init__(
        self,
        decoder: Decoder,
        grammars: Grammars,
        *,
        kv_max_bytes: int | None = None,
        max_queue: int = MAX_QUEUE,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._decoder = decoder
        self._grammars = grammars
        self._monotonic = monotonic
        on_cpu = decoder.device.type == "cpu"
        self._max_streams = MAX_STREAMS_CPU if on_cpu else MAX_STREAMS_GPU
        self._max_queue = max_queue
        flop_per_token = 2 * sum(p.numel() for p in decoder.parameters())
        flop = PREFILL_FLOP_CPU if on_cpu else PREFILL_FLOP_GPU
        self._prefill_tokens = max(PAGE_TOKENS, int(flop / flop_per_token))
        self._maps = FrozenMaps(decoder)
        self._cache = KvCache(decoder.cfg, decoder.dtype, decoder.device, kv_max_bytes or _kv_bytes(decoder.device))
        self._context = min(decoder.cfg.max_positions, self._cache.max_tokens)
        self._adapters = RowAdapters(self._maps, decoder.dtype, decoder.device)
        self._decode = DecodeStep(decoder, self._maps, self._cache, self._adapters)
        self._saved: OrderedDict[Path, _Saved] = OrderedDict()
        self._streams: dict[str, Stream] = {}
        self._turnover = Turnover(monotonic)
        self._schedule = Schedule(self._cache, self._turnover)
        self._parked: frozenset[str] = frozenset()  # in the last tick
        self._tick_s = 0.0  # that it took
        self.sampled_tokens = self.prompt_tokens = self.prefix_hit_tokens = 0
        self._failed: list[tuple[Stream, errors.TrainyardError]] = []  # since `failures` was asked

    @property
    def active(self) -> int:
        """Streams that hold pages."""
        return len(self._schedule.live)

    @property
    def queued(self) -> int:
        """Streams that wait for pages or a place."""
        return len(self._schedule.waiting)

    @property
    def kv_bytes(self) -> int:
        """Bytes of pages that streams hold or that are kept for others."""
        return self._cache.used_bytes

    @property
    def kv_max_bytes(self) -> int:
        """Bytes of all pages."""
        return self._cache.max_bytes

    # -------------------------------------------------------------- admission
    def admit(
        self, request: types.GenerateRequest, weights: AdapterTensors | None = None, version: str = "base"
    ) -> None:
        """Take a request in with these weights, which it uses to its end; raises as `EngineCore.admit`."""
        if request.stream_id in self._streams:
            raise errors.Conflict(f"stream {request.stream_id!r} is live already", code="stream_exists")
        cfg = self._decoder.cfg
        sampling.check(request.sampling, cfg.vocab_size)
        prompt = types.read_int32(request.prompt)
        if not prompt or min(prompt) < 0 or max(prompt) >= cfg.vocab_size:
            message = f"the prompt needs at least one token, all in 0..{cfg.vocab_size - 1}"
            raise errors.InvalidRequest(message, param="prompt")
        if len(prompt) > self._context:
            raise self._too_long(len(prompt))
        if self.queued >= self._max_queue:
            self._schedule.join(self._parked, self._max_streams)
        if self.queued >= self._max_queue:
            raise self._turnover.overloaded(self.queued, self._first_end_s())
        limit = min(request.sampling.max_tokens, max(1, self._context - len(prompt)))
        chain = None
        if request.prefix_scope is not None:
            chain = Chain(request.prefix_scope, self._cache.index.number(weights))
        stream = Stream(request.stream_id, prompt, Blocks(chain), request.sampling, weights, version, limit)
        if request.sampling.grammar is not None:
            stream.grammar = self._grammars.begin(request.sampling.grammar, limit)
        if weights is not None:
            weights.readers += 1
        self._streams[request.stream_id] = stream
        self._schedule.add(stream)
        self.prompt_tokens += len(prompt)

    def _too_long(self, length: int) -> errors.InvalidRequest:
        message = f"the prompt has {length} tokens; the context of this model holds {self._decoder.cfg.max_positions}"
        if self._context < self._decoder.cfg.max_positions:
            message += f" and engine.kv_max_bytes only {self._context} of them"
        return errors.InvalidRequest(message, code="context_length_exceeded", param="prompt")

    def _first_end_s(self) -> float:
        """Estimate when the first running stream ends at the latest."""
        left = min((stream.limit - stream.drawn for stream in self._schedule.live), default=1)
        return left * self._tick_s

    def saved_adapter(self, directory: Path) -> tuple[AdapterTensors, str]:
        """Load an adapter in PEFT's format, kept while it is in use and unchanged on disk: (weights, version).

        Raises:
            errors.NotFound: code `adapter_not_found`.
            errors.InvalidRequest: It belongs to another model or is of a kind that this engine does not run.
        """
        stamp = peft_files.stamp(directory)
        found = self._saved.get(directory)
        if found is None or found.stamp != stamp:
            weights, version = peft_files.load(self._decoder.cfg, directory, self._decoder.device)
            found = self._saved[directory] = _Saved(stamp, weights, version)
        self._saved.move_to_end(directory)
        while len(self._saved) > SAVED_ADAPTERS:
            self._saved.popitem(last=False)
        return found.weights, found.version

    def cancel(self, stream_id: str) -> bool:
        """End a stream without a further event; false when it is not there."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._remove(stream)
        return stream is not None

    def _remove(self, stream: Stream) -> None:
        del self._streams[stream.stream_id]
        self._schedule.remove(stream)
        if stream.weights is not None:
            stream.weights.readers -= 1
        if not self._schedule.live:
            self._adapters.forget()

    # ------------------------------------------------------------------- tick
    @torch.inference_mode()
    def tick(self, parked: frozenset[str] = frozenset()) -> list[tuple[str, types.TokenEvent]]:
        """Give one token to every stream whose prompt is read and which is not parked, and read more of the prompts."""
        began, self._parked = self._monotonic(), parked
        self._cache.forget_gone()
        rows = self._schedule.settle(parked)
        others_decode = bool(rows)
        events = self._step(rows) if rows else []
        self._end(events)
        self._schedule.join(parked, self._max_streams)
        first = self._read_prompts(parked, others_decode=others_decode)
        self._end(first)
        self.prefix_hit_tokens += sum(event.cached_tokens for _, event in first)
        self.sampled_tokens += len(events) + len(first)
        self._tick_s = self._monotonic() - began
        return [(stream.stream_id, event) for stream, event in events + first]

    def _end(self, events: Sequence[tuple[Stream, types.TokenEvent]]) -> None:
        for stream, event in events:
            if event.finish is not None:
                self._remove(stream)
        for stream, _ in self._failed:
            if self._streams.get(stream.stream_id) is stream:
                self._remove(stream)

    def _step(self, rows: Sequence[Stream]) -> list[tuple[Stream, types.TokenEvent]]:
        self._adapters.arrange([row.weights for row in rows])
        logits_BV = self._decode.run([row.last for row in rows], [row.blocks for row in rows])
        for row in rows:
            self._cache.advance(row.blocks, row.text, len(row.text))
        return self._draw(rows, logits_BV)

    def _draw(self, streams: Sequence[Stream], logits_BV: Tensor) -> list[tuple[Stream, types.TokenEvent]]:
        masks = self._masks(streams)
        settings = [s.sampling for s in streams]
        uniforms = [s.uniform() for s in streams]
        adjusted_BV = sampling.adjusted(logits_BV, settings, [s.counts for s in streams], masks)
        tokens_B = sampling.draw(adjusted_BV, settings, uniforms)
        tokens: list[int] = tokens_B.tolist()
        if masks:
            tokens = [
                s.choose(token) if row in masks else token
                for row, (s, token) in enumerate(zip(streams, tokens, strict=True))
            ]
            tokens_B = torch.tensor(tokens, device=logits_BV.device)
        notes = sampling.logprobs(logits_BV, tokens_B, settings)
        drawn = zip(streams, tokens, notes, strict=True)
        failed = {stream for stream, _ in self._failed}
        return [(s, s.take(token, *note)) for s, token, note in drawn if s not in failed]

    def _masks(self, streams: Sequence[Stream]) -> dict[int, Words]:
        """Ask the grammars what may come next, by row; a stream whose grammar fails gets no token."""
        masks: dict[int, Words] = {}
        for row, stream in enumerate(streams):
            if stream.grammar is not None:
                try:
                    masks[row] = stream.grammar.mask()
                except errors.InvalidRequest as error:
                    self._failed.append((stream, error))
        return masks

    def failures(self) -> list[tuple[str, errors.TrainyardError]]:
        """Take the streams that ended with an error since the last call."""
        failed, self._failed = self._failed, []
        return [(stream.stream_id, error) for stream, error in failed]

    def _read_prompts(self, parked: frozenset[str], *, others_decode: bool) -> list[tuple[Stream, types.TokenEvent]]:
        budget = self._prefill_tokens if others_decode else IDLE_FACTOR * self._prefill_tokens
        stretches = self._schedule.plan(parked, budget)
        if not stretches:
            return []
        h_MD = prefill.Prefill(self._decoder, self._maps, self._cache, stretches).run()
        done = [s.stream for s in stretches if s.draws]
        return self._draw(done, self._maps.logits(h_MD)) if done else []


def _kv_bytes(device: torch.device) -> int:
    """Choose the memory for pages where none is named."""
    if device.type != "cuda":
        return KV_BYTES_CPU
    return int(KV_SHARE_GPU * torch.cuda.mem_get_info(device)[0])
