"""Text in and text out over an engine that speaks tokens; runs in the HTTP process, free of torch."""

import secrets
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal, cast

from trainyard.core import errors
from trainyard.engine import types
from trainyard.engine.base import Engine
from trainyard.engine.detokenizer import Detokenizer, StopFinder
from trainyard.engine.tokenizer import Tokenizer

TextFinish = Literal["stop", "length"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRequest:
    """One sequence to continue as text.

    Attributes:
        prompt_ids: At least one id.
        max_tokens: Most tokens to draw, the end-of-turn token included.
        temperature: 0 = greedy.
        top_p: Share of the probability to draw from, above 0, at most 1.
        top_k: Number of likeliest tokens to draw from; 0 = all.
        stop: Strings that end the text and are not part of it; none empty.
        seed: Same seed, prompt and weights give the same tokens; None = a new one each time.
        logprobs: -1 none, 0 those of the drawn tokens, n also of the n likeliest.
        run_id: Live adapter of that run; None = base model.
        adapter_dir: A saved adapter in PEFT's format instead of a live run.
        continues_prompt: The text goes on where the prompt ends, so a leading space counts; false for the answer of a
            chat, which begins a text of its own.
        min_p: Drop tokens below this share of the likeliest one's probability; 0 = none.
        presence_penalty: Off the logit of every token that the answer holds.
        frequency_penalty: The same times the number of its occurrences.
        grammar: What the text has to be; None = anything.
        prefix_scope: Requests of the same scope share computed beginnings of prompts; None shares nothing.
        timeout_s: Seconds after which the engine ends the stream; None = no end.
    """

    prompt_ids: Sequence[int]
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    logprobs: int = -1
    run_id: str | None = None
    adapter_dir: str | None = None
    continues_prompt: bool = True
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    grammar: types.Grammar | None = None
    prefix_scope: str | None = None
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class DrawnToken:
    """One token that the model drew.

    Attributes:
        token_id: Its id.
        logprob: Natural log of its probability; NaN when not asked.
        top: The likeliest (id, logprob) pairs, best first; empty when not asked.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPiece:
    """Text that became certain, with the tokens behind it; the last piece has a finish reason.

    Attributes:
        text: New characters; may be empty while a character or a stop string is incomplete.
        tokens: Tokens whose text is out with this piece; neither end-of-turn nor what a stop string cut off.
        finish_reason: `stop` (end of turn or stop string) or `length`, on the last piece only.
        completion_tokens: Tokens drawn so far, all of them.
        weights_version: `<run_id>@<step>` or `base`.
        cached_tokens: Tokens of the prompt that were found computed; the same on every piece.
    """

    text: str
    tokens: tuple[DrawnToken, ...]
    finish_reason: TextFinish | None
    completion_tokens: int
    weights_version: str
    cached_tokens: int = 0

    @property
    def token_ids(self) -> list[int]:
        """Ids of `tokens`."""
        return [token.token_id for token in self.tokens]

    @property
    def logprobs(self) -> list[float]:
        """Logprobs of `tokens`; NaN when not asked."""
        return [token.logprob for token in self.tokens]


async def stream_text(engine: Engine, tokenizer: Tokenizer, request: TextRequest) -> AsyncGenerator[TextPiece, None]:
    """Generate and give text as it becomes certain; closing the iterator frees the engine's slot.

    Raises:
        errors.Unavailable: The engine is away, or ended the stream before it was done (`generation_cancelled`).
        errors.InvalidRequest: The model cannot do this.
    """
    assembly = _Assembly(tokenizer, request)
    async with aclosing(_events(engine, tokenizer, request)) as events:
        async for event in events:
            piece = assembly.push(event)
            if piece.text or piece.tokens or piece.finish_reason:
                yield piece
            if piece.finish_reason:
                return
    raise _ended_early()


async def collect_text(engine: Engine, tokenizer: Tokenizer, request: TextRequest) -> TextPiece:
    """Generate to the end and give everything as one piece.

    Raises:
        errors.Unavailable: As `stream_text`.
        errors.InvalidRequest: As `stream_text`.
    """
    async with aclosing(stream_text(engine, tokenizer, request)) as pieces:
        return join_pieces([piece async for piece in pieces])


def join_pieces(pieces: Sequence[TextPiece]) -> TextPiece:
    """Put the pieces of one finished stream together."""
    last = pieces[-1]
    return TextPiece(
        text="".join(piece.text for piece in pieces),
        tokens=tuple(token for piece in pieces for token in piece.tokens),
        finish_reason=last.finish_reason,
        completion_tokens=last.completion_tokens,
        weights_version=last.weights_version,
        cached_tokens=last.cached_tokens,
    )


def _events(engine: Engine, tokenizer: Tokenizer, request: TextRequest) -> AsyncGenerator[types.TokenEvent, None]:
    events = engine.generate(
        types.GenerateRequest(
            stream_id=f"stm_{secrets.token_hex(8)}",
            prompt=types.int32(request.prompt_ids),
            sampling=types.Sampling(
                max_tokens=request.max_tokens,
                temperature=request.temperature,
                top_p=request.top_p,
                top_k=request.top_k,
                seed=request.seed,
                stop_token_ids=tokenizer.eos_ids,
                logprobs=request.logprobs,
                min_p=request.min_p,
                presence_penalty=request.presence_penalty,
                frequency_penalty=request.frequency_penalty,
                grammar=request.grammar,
            ),
            run_id=request.run_id,
            adapter_dir=request.adapter_dir,
            prefix_scope=request.prefix_scope,
            timeout_s=request.timeout_s,
        )
    )
    return cast("AsyncGenerator[types.TokenEvent, None]", events)  # closing it is part of the Protocol's words


class _Assembly:
    """Follows one stream: which text is certain, which tokens stand behind it, and how it ends."""

    def __init__(self, tokenizer: Tokenizer, request: TextRequest) -> None:
        context = request.prompt_ids if request.continues_prompt else ()
        self._detokenizer = Detokenizer(tokenizer, context)
        self._stops = StopFinder(request.stop)
        self._waiting: deque[tuple[int, int, DrawnToken]] = deque()  # start and end of a token's text, and the token
        self._read = 0  # characters decoded
        self._out = 0  # characters given
        self._drawn = 0
        self._cached = 0

    def push(self, event: types.TokenEvent) -> TextPiece:
        """Take one event of the engine.

        Raises:
            errors.Unavailable: The engine ended the stream without being asked to.
        """
        if event.finish == "cancelled":
            raise _ended_early()
        self._drawn += event.token >= 0
        self._cached = self._cached or event.cached_tokens
        raw = self._take(event) if event.token >= 0 and event.finish != "stop" else ""
        text, finish = self._advance(raw, event.finish)
        self._out += len(text)
        return TextPiece(
            text=text,
            tokens=tuple(self._release(cut=finish is not None and self._stops.is_found, final=finish is not None)),
            finish_reason=finish,
            completion_tokens=self._drawn,
            weights_version=event.weights_version,
            cached_tokens=self._cached,
        )

    def _take(self, event: types.TokenEvent) -> str:
        text = self._detokenizer.push(event.token)
        start, self._read = self._read, self._read + len(text)
        self._waiting.append((start, self._read, DrawnToken(event.token, event.logprob, event.top)))
        return text

    def _advance(self, raw: str, end: TextFinish | None) -> tuple[str, TextFinish | None]:
        text = self._stops.push(raw + self._detokenizer.flush() if end else raw)
        if self._stops.is_found:
            return text, "stop"
        return (text + self._stops.flush(), end) if end else (text, None)

    def _release(self, *, cut: bool, final: bool) -> Iterator[DrawnToken]:
        """Give the tokens whose text is out; at the end also the last ones, unless a stop string cut them off."""
        while self._waiting:
            start, end, token = self._waiting[0]
            if end > self._out and not (final and (not cut or start < self._out)):
                return
            self._waiting.popleft()
            yield token


def _ended_early() -> errors.Unavailable:
    return errors.Unavailable(
        "The engine ended the stream before it was done; send the request again", code="generation_cancelled"
    )
