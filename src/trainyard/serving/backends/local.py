"""Models of our own engines: counts prompts here, draws tokens there."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace

from trainyard.core import errors
from trainyard.engine import generation, types
from trainyard.engine.base import Engine, Engines
from trainyard.engine.generation import TextPiece, TextRequest
from trainyard.engine.tokenizer import Tokenizer, Tokenizers
from trainyard.serving.backends import budget
from trainyard.serving.types import Ask, Chat, Prompt, Target

_SEEDS = 2**63


@dataclass(frozen=True, slots=True)
class LocalPrompt:
    """Implements `Prepared` over an engine."""

    engine: Engine
    tokenizer: Tokenizer
    request: TextRequest

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt in the model's tokens."""
        return len(self.request.prompt_ids)

    def stream(self, choice: int) -> AsyncGenerator[TextPiece, None]:
        """Generate one answer."""
        seed = self.request.seed
        request = replace(self.request, seed=None if seed is None else (seed + choice) % _SEEDS)
        return generation.stream_text(self.engine, self.tokenizer, request)

    def token_bytes(self, token_id: int) -> bytes:
        """Tell which bytes of text a token stands for."""
        return self.tokenizer.token_bytes(token_id)


class LocalBackend:
    """Implements `TextBackend` over the engines of this server."""

    def __init__(self, engines: Engines, tokenizers: Tokenizers) -> None:
        self._engines = engines
        self._tokenizers = tokenizers
        self._infos: dict[str, types.ModelInfo] = {}

    async def prepare(self, target: Target, ask: Ask) -> Sequence[LocalPrompt]:
        """Encode every prompt and see that it fits the model's context."""
        engine = await self._engines.get(target.base_model)
        tokenizer = await self._tokenizers.load(target.base_model)
        info = await self._info(target.base_model, engine)
        prepared = []
        for prompt in ask.prompts:
            ids = await _encode(tokenizer, prompt, ask.param, info.vocab_size)
            limit = budget.answer_tokens(ask, len(ids), info.max_positions)
            prepared.append(LocalPrompt(engine, tokenizer, _request(target, ask, prompt, ids, limit)))
        return prepared

    async def _info(self, model: str, engine: Engine) -> types.ModelInfo:
        if model not in self._infos:
            self._infos[model] = await engine.info()
        return self._infos[model]


async def _encode(tokenizer: Tokenizer, prompt: Prompt, param: str, vocab_size: int) -> Sequence[int]:
    if isinstance(prompt, Chat):
        return await tokenizer.encode_chat_async(prompt.messages, add_generation_prompt=True)
    if isinstance(prompt, str):
        return await tokenizer.encode_async(prompt)
    if any(not 0 <= token < vocab_size for token in prompt):
        raise errors.InvalidRequest(f"Token ids of this model lie between 0 and {vocab_size - 1}", param=param)
    return prompt


def _request(target: Target, ask: Ask, prompt: Prompt, ids: Sequence[int], max_tokens: int) -> TextRequest:
    adapter = target.adapter
    saved = adapter.checkpoint_dir if adapter else None
    return TextRequest(
        prompt_ids=ids,
        max_tokens=max_tokens,
        temperature=ask.temperature,
        top_p=ask.top_p,
        top_k=ask.top_k,
        stop=ask.stop,
        seed=ask.seed,
        logprobs=ask.logprobs,
        run_id=adapter.run_id if adapter and saved is None else None,
        adapter_dir=saved,
        continues_prompt=not isinstance(prompt, Chat),
    )
