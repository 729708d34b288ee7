"""Tokens, chat templates and the model behind a run."""

import asyncio

from trainyard.core import errors
from trainyard.core.principal import Principal
from trainyard.engine.tokenizer import Tokenizer, beside_loop
from trainyard.training.service.parts import Parts
from trainyard.training.service.sessions import Sessions
from trainyard.training.types import (
    ChatTemplateRequest,
    ChatTemplateResponse,
    DetokenizeRequest,
    DetokenizeResponse,
    ModelInfoResponse,
    RunState,
    TokenizeRequest,
    TokenizeResponse,
    TokenizerInfoResponse,
)


class Text:
    """Shows how the base model of a run reads and writes text."""

    def __init__(self, parts: Parts, sessions: Sessions) -> None:
        self._parts = parts
        self._sessions = sessions

    async def tokenize(self, principal: Principal, run_id: str, request: TokenizeRequest) -> TokenizeResponse:
        """Turn texts into ids."""
        tokenizer = await self._tokenizer(principal, run_id)
        texts = [request.text] if isinstance(request.text, str) else request.text

        def encode() -> TokenizeResponse:
            ids = [tokenizer.encode(text, request.add_special_tokens) for text in texts]
            return TokenizeResponse(token_ids=ids, tokens=[tokenizer.tokens(one) for one in ids])

        return await beside_loop(sum(map(len, texts)), encode)

    async def detokenize(self, principal: Principal, run_id: str, request: DetokenizeRequest) -> DetokenizeResponse:
        """Turn ids into texts.

        Raises:
            errors.InvalidRequest: An id is not in the vocabulary.
        """
        tokenizer = await self._tokenizer(principal, run_id)
        lists = [one for one in request.token_ids if isinstance(one, list)]
        flat = [one for one in request.token_ids if isinstance(one, int)]
        largest = max((one for ids in (*lists, flat) for one in ids), default=0)
        if largest >= tokenizer.vocab_size:
            raise errors.InvalidRequest(
                f"token_ids holds {largest}; ids of this model lie between 0 and {tokenizer.vocab_size - 1}",
                param="token_ids",
            )
        if not lists:
            return DetokenizeResponse(text=await asyncio.to_thread(tokenizer.decode, flat, False))
        return DetokenizeResponse(text=[await asyncio.to_thread(tokenizer.decode, ids, False) for ids in lists])

    async def tokenizer_info(self, principal: Principal, run_id: str) -> TokenizerInfoResponse:
        """Describe the tokenizer."""
        tokenizer = await self._tokenizer(principal, run_id, is_read=True)
        return TokenizerInfoResponse(
            vocab_size=tokenizer.vocab_size,
            model_max_length=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_id,
            eos_token_id=tokenizer.eos_id,
            pad_token_id=tokenizer.pad_id,
            unk_token_id=tokenizer.unk_id,
            special_tokens=tokenizer.special_tokens,
        )

    async def model_info(self, principal: Principal, run_id: str) -> ModelInfoResponse:
        """Describe the base model and the size of the adapter."""
        record = await self._sessions.find(principal, run_id, is_read=True)
        tokenizer = await self._parts.tokenizers.load(record.base_model)
        info = await (await self._parts.engines.get(record.base_model)).info()
        trainable = None
        if record.status is RunState.ACTIVE:
            trainable = (await self._sessions.state(record)).trainable_parameters
        return ModelInfoResponse(
            base_model=record.base_model,
            architecture=info.architecture,
            num_parameters=info.parameters,
            trainable_parameters=trainable,
            hidden_size=info.hidden_size,
            num_layers=info.layers,
            num_attention_heads=info.heads,
            num_key_value_heads=info.kv_heads,
            vocab_size=info.vocab_size,
            max_position_embeddings=info.max_positions,
            dtype=info.dtype,
            device=info.device,
            chat_template=tokenizer.chat_template,
        )

    async def apply_chat_template(
        self, principal: Principal, run_id: str, request: ChatTemplateRequest
    ) -> ChatTemplateResponse:
        """Render a chat as the model expects it.

        Raises:
            errors.InvalidRequest: The model has no template, or it refuses the messages.
        """
        tokenizer = await self._tokenizer(principal, run_id)
        messages = [message.model_dump() for message in request.messages]

        def render() -> ChatTemplateResponse:
            return ChatTemplateResponse(
                text=tokenizer.render_chat(messages, request.add_generation_prompt),
                token_ids=tokenizer.encode_chat(messages, request.add_generation_prompt),
            )

        return await beside_loop(sum(len(message.content) for message in request.messages), render)

    async def _tokenizer(self, principal: Principal, run_id: str, *, is_read: bool = False) -> Tokenizer:
        record = await self._sessions.find(principal, run_id, is_read=is_read)
        return await self._parts.tokenizers.load(record.base_model)
