"""Models of our own engines: counts prompts here, draws tokens there."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from msgspec import structs

from trainyard.core import errors
from trainyard.core.catalog import Change
from trainyard.engine import generation, grammar_text, types
from trainyard.engine.base import Engine, Engines
from trainyard.engine.generation import DrawnToken, TextPiece, TextRequest
from trainyard.engine.tokenizer import Tokenizer, Tokenizers
from trainyard.engine.types import Grammar
from trainyard.serving import tools
from trainyard.serving.backends import budget
from trainyard.serving.tools_reader import ToolReader
from trainyard.serving.types import Ask, Chat, EmbedAsk, Piece, Prompt, Target, TokenInfo, Vectors, pieces

_SEEDS = 2**63


@dataclass(slots=True)
class LocalPrompt:
    """Implements `Prepared` over an engine."""

    engine: Engine
    tokenizer: Tokenizer
    request: TextRequest
    calls: tools.Style | None = None  # how the model writes calls, where it may call
    _drawn: dict[int, int] = field(default_factory=dict)

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt in the model's tokens."""
        return len(self.request.prompt_ids)

    @property
    def max_tokens(self) -> int:
        """Most tokens of one answer."""
        return self.request.max_tokens

    @property
    def keeps_time(self) -> bool:
        """False: an engine that stands still ends nothing."""
        return False

    @property
    def drawn(self) -> int:
        """Tokens of all choices so far."""
        return sum(self._drawn.values())

    async def stream(self, choice: int, timeout_s: float) -> AsyncGenerator[Piece, None]:
        """Generate one answer; the engine ends it after `timeout_s`."""
        seed = self.request.seed
        request = replace(
            self.request, seed=None if seed is None else (seed + choice) % _SEEDS, timeout_s=max(timeout_s, 0.001)
        )
        reader = None if self.calls is None else ToolReader(self.calls)
        async with aclosing(generation.stream_text(self.engine, self.tokenizer, request)) as texts:
            async for text in texts:
                self._drawn[choice] = text.completion_tokens
                piece = self._piece(text)
                yield piece if reader is None else _with_calls(piece, reader)

    async def collect(self, choice: int, timeout_s: float) -> Piece:
        """Generate one answer to its end."""
        async with aclosing(self.stream(choice, timeout_s)) as made:
            return pieces.join([piece async for piece in made])

    def _piece(self, text: TextPiece) -> Piece:
        asked = self.request.logprobs >= 0
        return Piece(
            text=text.text,
            tokens=tuple([self._token(token) for token in text.tokens]) if asked else (),
            finish_reason=text.finish_reason,
            completion_tokens=text.completion_tokens,
            cached_tokens=text.cached_tokens,
            version=text.weights_version,
        )

    def _token(self, token: DrawnToken) -> TokenInfo:
        spell = self.tokenizer.token_bytes
        rivals = tuple([(spell(one), logprob) for one, logprob in token.top])
        return TokenInfo(spell(token.token_id), token.logprob, rivals)


class LocalBackend:
    """Implements `TextBackend` over the engines of this server."""

    def __init__(self, engines: Engines, tokenizers: Tokenizers) -> None:
        self._engines = engines
        self._tokenizers = tokenizers
        self._infos: dict[str, types.ModelInfo] = {}

    def forget(self, change: Change) -> None:
        """Ask the engines of models that the catalog describes anew what they are."""
        for name in (*change.changed, *change.removed):
            self._infos.pop(name, None)

    async def prepare(self, target: Target, ask: Ask) -> Sequence[LocalPrompt]:
        """Encode every prompt and see that it fits the model's context."""
        engine, tokenizer, info = await self._parts(target.base_model)
        prepared = []
        for prompt in ask.prompts:
            form, calls = await _form(tokenizer, prompt, ask)
            ids = await _encode(tokenizer, prompt, ask, info.vocab_size)
            limit = budget.answer_tokens(ask, len(ids), info.max_positions)
            request = replace(_request(target, ask, prompt, ids, limit), grammar=form)
            prepared.append(LocalPrompt(engine, tokenizer, request, calls))
        return prepared

    async def count(self, target: Target, ask: EmbedAsk) -> int:
        """Encode every text and see that it fits the model's context."""
        _, tokenizer, info = await self._parts(target.base_model)
        return sum(map(len, await _encode_texts(tokenizer, ask, info)))

    async def embed(self, target: Target, ask: EmbedAsk, timeout_s: float) -> Vectors:
        """Average the last layer over all tokens of a text, to length 1; who calls this ends what takes too long."""
        engine, tokenizer, info = await self._parts(target.base_model)
        if ask.dimensions is not None and ask.dimensions > info.hidden_size:
            raise errors.InvalidRequest(f"This model's vectors have {info.hidden_size} numbers", param="dimensions")
        texts = await _encode_texts(tokenizer, ask, info)
        run_id, saved = _weights(target)
        request = types.EmbedRequest(
            inputs=tuple(types.int32(ids) for ids in texts), normalize=True, run_id=run_id, adapter_dir=saved
        )
        made = await engine.embed(request)
        vectors = [_cut(types.read_float32(raw), ask.dimensions) for raw in made.vectors]
        return Vectors(vectors=vectors, prompt_tokens=made.tokens, version=made.weights_version)

    async def _parts(self, model: str) -> tuple[Engine, Tokenizer, types.ModelInfo]:
        engine = await self._engines.get(model)
        tokenizer = await self._tokenizers.load(model)
        if model not in self._infos:
            self._infos[model] = await engine.info()
        return engine, tokenizer, self._infos[model]


async def _form(tokenizer: Tokenizer, prompt: Prompt, ask: Ask) -> tuple[Grammar | None, tools.Style | None]:
    """Say what the text has to be, checked, and how it writes tool calls, if it may hold some.

    Raises:
        errors.InvalidRequest: The form, or the parameters of a tool, cannot be kept.
    """
    callable_tools = prompt.tools if isinstance(prompt, Chat) and ask.tool_choice != "none" else ()
    if ask.form is None and not callable_tools:
        return None, None
    style = tools.style_of(tokenizer.chat_template)

    def make() -> tuple[Grammar | None, tools.Style | None]:
        if ask.form is not None:
            grammar_text.validate_grammar(ask.form)
        if not callable_tools:
            return ask.form, None
        form = tools.grammar(
            callable_tools, ask.tool_choice, is_parallel=ask.parallel_tool_calls, form=ask.form, style=style
        )
        grammar_text.validate_grammar(form)
        return form, style

    return await asyncio.to_thread(make)  # a short text can take llguidance 0.1 s, in which it lets others run


def _with_calls(piece: Piece, reader: ToolReader) -> Piece:
    """Tell text and calls apart; an answer that ends after calls says so."""
    text, calls = reader.push(piece.text)
    if piece.finish_reason is not None:
        text += reader.flush()
    is_called = piece.finish_reason == "stop" and reader.calls > 0
    return structs.replace(
        piece, text=text, tool_calls=calls, finish_reason="tool_calls" if is_called else piece.finish_reason
    )


async def _encode(tokenizer: Tokenizer, prompt: Prompt, ask: Ask, vocab_size: int) -> Sequence[int]:
    if isinstance(prompt, Chat):
        shows_tools = bool(prompt.tools) and ask.tool_choice != "none"
        turns = tools.turns(prompt, knows_tools=tokenizer.knows_tools, shows_tools=shows_tools)
        listed = [tools.shape(tool) for tool in prompt.tools] if shows_tools and tokenizer.knows_tools else []
        return await tokenizer.encode_chat_async(turns, add_generation_prompt=True, tools=listed)
    if isinstance(prompt, str):
        return await tokenizer.encode_async(prompt)
    return _checked(prompt, vocab_size, ask.param)


async def _encode_texts(tokenizer: Tokenizer, ask: EmbedAsk, info: types.ModelInfo) -> list[Sequence[int]]:
    texts: list[Sequence[int]] = []
    for at, text in enumerate(ask.inputs):
        ids = await tokenizer.encode_async(text) if isinstance(text, str) else text
        if not 0 < len(ids) <= info.max_positions:
            raise errors.InvalidRequest(
                f"Text {at} has {len(ids)} tokens; this model reads 1 to {info.max_positions}",
                code="context_length_exceeded",
                param=ask.param,
            )
        texts.append(_checked(ids, info.vocab_size, ask.param))
    return texts


def _checked(ids: Sequence[int], vocab_size: int, param: str) -> Sequence[int]:
    if any(not 0 <= token < vocab_size for token in ids):
        raise errors.InvalidRequest(f"Token ids of this model lie between 0 and {vocab_size - 1}", param=param)
    return ids


def _cut(vector: Sequence[float], dimensions: int | None) -> Sequence[float]:
    if dimensions is None or dimensions >= len(vector):
        return vector
    length = sum(number * number for number in vector[:dimensions]) ** 0.5 or 1.0
    return [number / length for number in vector[:dimensions]]


def _weights(target: Target) -> tuple[str | None, str | None]:
    """Name the weights on top of the base model: a live run, or the directory of a saved adapter."""
    if target.adapter is None:
        return None, None
    saved = target.adapter.checkpoint_dir
    return (target.adapter.run_id if saved is None else None), saved


def _request(target: Target, ask: Ask, prompt: Prompt, ids: Sequence[int], max_tokens: int) -> TextRequest:
    run_id, saved = _weights(target)
    return TextRequest(
        prompt_ids=ids,
        max_tokens=max_tokens,
        temperature=ask.temperature,
        top_p=ask.top_p,
        top_k=ask.top_k,
        min_p=ask.min_p,
        presence_penalty=ask.presence_penalty,
        frequency_penalty=ask.frequency_penalty,
        stop=ask.stop,
        seed=ask.seed,
        logprobs=ask.logprobs,
        run_id=run_id,
        adapter_dir=saved,
        prefix_scope=target.prefix_scope,
        continues_prompt=not isinstance(prompt, Chat),
    )
