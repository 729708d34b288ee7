"""Continuous batching: streams join, decode together and leave, each with its own adapter, settings and seed."""

from collections import OrderedDict
from collections.abc import Sequence
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
from trainyard.engine.kv_cache import KvCache
from trainyard.engine.model import Decoder
from trainyard.engine.row_adapters import RowAdapters
from trainyard.engine.stream import Stream

MAX_STREAMS_CPU, MAX_STREAMS_GPU = 64, 256
"""Streams that decode together; more wait in order of arrival."""
PREFILL_FLOP_CPU, PREFILL_FLOP_GPU = 8e9, 4e13
"""Work on prompts within one tick: about 0.1 s at the 80 GFLOP/s that one core of the reference machine reaches."""
IDLE_FACTOR = 8
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

    def __init__(self, decoder: Decoder, grammars: Grammars) -> None:
        self._decoder = decoder
        self._grammars = grammars
        on_cpu = decoder.device.type == "cpu"
        self._max_streams = MAX_STREAMS_CPU if on_cpu else MAX_STREAMS_GPU
        flop_per_token = 2 * sum(p.numel() for p in decoder.parameters())
        self._prefill_tokens = int(max(64, (PREFILL_FLOP_CPU if on_cpu else PREFILL_FLOP_GPU) / flop_per_token))
        self._cache = KvCache(decoder.cfg, decoder.dtype, decoder.device)
        self._maps = FrozenMaps(decoder)
        self._adapters = RowAdapters(self._maps, decoder.dtype, decoder.device)
        self._decode = DecodeStep(decoder, self._maps, self._cache, self._adapters)
        self._saved: OrderedDict[Path, _Saved] = OrderedDict()
        self._streams: dict[str, Stream] = {}
        self._slots: list[Stream] = []  # decoding or being read, by slot
        self._queue: OrderedDict[str, Stream] = OrderedDict()
        self.sampled_tokens = 0
        self._failed: list[tuple[Stream, errors.TrainyardError]] = []  # since `failures` was asked

    @property
    def active(self) -> int:
        """Streams that have a slot."""
        return len(self._slots)

    @property
    def queued(self) -> int:
        """Streams that wait for a slot."""
        return len(self._queue)

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
        if len(prompt) > cfg.max_positions:
            message = f"the prompt has {len(prompt)} tokens; the context of this model holds {cfg.max_positions}"
            raise errors.InvalidRequest(message, code="context_length_exceeded", param="prompt")
        limit = min(request.sampling.max_tokens, max(1, cfg.max_positions - len(prompt)))
        tokens = torch.tensor(prompt, device=self._decoder.device)
        stream = Stream(request.stream_id, tokens, request.sampling, weights, version, limit)
        if request.sampling.grammar is not None:
            stream.grammar = self._grammars.begin(request.sampling.grammar, limit)
        if weights is not None:
            weights.readers += 1
        self._streams[request.stream_id] = self._queue[request.stream_id] = stream

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
        self._queue.pop(stream.stream_id, None)
        if stream.weights is not None:
            stream.weights.readers -= 1
        if stream.slot >= 0:
            self._cache.remove(stream.slot)
            last = self._slots.pop()
            if last is not stream:
                last.slot = stream.slot
                self._slots[last.slot] = last
        if not self._slots:
            self._adapters.forget()

    # ------------------------------------------------------------------- tick
    @torch.no_grad()
    def tick(self, parked: frozenset[str] = frozenset()) -> list[tuple[str, types.TokenEvent]]:
        """Give one token to every stream whose prompt is read and which is not parked, and read more of the prompts."""
        decoding = [s for s in self._slots if s.drawn]
        events = self._step(parked) if any(s.stream_id not in parked for s in decoding) else []
        events += self._read_prompts(bool(decoding))
        self.sampled_tokens += len(events)
        for stream, event in events:
            if event.finish is not None:
                self._remove(stream)
        for stream, _ in self._failed:
            self._remove(stream)
        return [(stream.stream_id, event) for stream, event in events]

    def _step(self, parked: frozenset[str]) -> list[tuple[Stream, types.TokenEvent]]:
        rows = self._slots
        self._adapters.arrange([s.weights for s in rows])
        lengths = self._cache.lengths
        logits_BV = self._decode.run([max(s.last, 0) for s in rows], lengths)
        live = [s for s in rows if s.drawn and s.stream_id not in parked]
        for stream in live:
            lengths[stream.slot] += 1
        if len(live) < len(rows):
            logits_BV = logits_BV[torch.tensor([s.slot for s in live], device=logits_BV.device)]
        return self._draw(live, logits_BV)

    def _draw(self, streams: Sequence[Stream], logits_BV: Tensor) -> list[tuple[Stream, types.TokenEvent]]:
        masks = self._masks(streams)
        settings = [s.sampling for s in streams]
        uniforms = [s.uniform() for s in streams]
        adjusted_BV = sampling.adjusted(logits_BV, settings, [s.counts for s in streams], masks)
        tokens_B = sampling.draw(adjusted_BV, settings, uniforms)
        for row in masks:
            tokens_B[row] = streams[row].choose(int(tokens_B[row]))
        notes = sampling.logprobs(logits_BV, tokens_B, settings)
        drawn = zip(streams, tokens_B.tolist(), notes, strict=True)
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

    def _read_prompts(self, others_decode: bool) -> list[tuple[Stream, types.TokenEvent]]:
        while self._queue and len(self._slots) < self._max_streams:
            _, stream = self._queue.popitem(last=False)
            stream.slot = self._cache.add()
            self._slots.append(stream)
        reading = [s for s in self._slots if not s.drawn]
        if not reading:
            return []
        budget = self._prefill_tokens if others_decode else IDLE_FACTOR * self._prefill_tokens
        stretches = prefill.plan(reading, budget)
        h_MD = prefill.Prefill(self._decoder, self._maps, self._cache, stretches).run()
        done = [s.stream for s in stretches if s.is_last]
        if not done:
            return []
        return self._draw(done, self._maps.logits(h_MD))
