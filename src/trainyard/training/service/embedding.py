"""Vectors from the weights of a run."""

from trainyard.core import errors
from trainyard.core.principal import Principal
from trainyard.engine import types as engine_types
from trainyard.engine.tokenizer import beside_loop
from trainyard.training.service.parts import Parts
from trainyard.training.service.sampling import callable_run
from trainyard.training.service.sessions import Sessions
from trainyard.training.types import EmbeddingsRequest, EmbeddingsResponse


class Embedding:
    """Reads texts with the live weights of a run."""

    def __init__(self, parts: Parts, sessions: Sessions) -> None:
        self._parts = parts
        self._sessions = sessions

    async def embeddings(self, principal: Principal, run_id: str, request: EmbeddingsRequest) -> EmbeddingsResponse:
        """Pool the hidden states of each text.

        Raises:
            errors.InvalidRequest: A text is empty or longer than the context, or there is no such layer.
            errors.Conflict: The run never became active, code `run_not_active`.
            errors.Unavailable: The engine is away.
        """
        record = await callable_run(self._sessions, principal, run_id)
        tokenizer = await self._parts.tokenizers.load(record.base_model)
        encoded = await beside_loop(
            sum(map(len, request.texts)), lambda: [tokenizer.encode(text) for text in request.texts]
        )
        context = (await (await self._parts.engines.get(record.base_model)).info()).max_positions
        for number, ids in enumerate(encoded):
            if not 1 <= len(ids) <= context:
                raise errors.InvalidRequest(
                    f"texts[{number}] has {len(ids)} tokens; it may have 1 to {context}, the context of "
                    f"{record.base_model}",
                    code="context_length_exceeded" if ids else "validation_error",
                    param=f"texts[{number}]",
                )
        wanted = engine_types.EmbedRequest(
            inputs=tuple(engine_types.int32(ids) for ids in encoded),
            pooling=request.pooling,
            layer=request.layer,
            run_id=record.run_id,
        )
        made = await self._sessions.call(record, lambda engine: engine.embed(wanted))
        return EmbeddingsResponse(
            embeddings=[engine_types.read_float32(vector) for vector in made.vectors],
            dimensions=made.dimensions,
            weights_version=made.weights_version,
        )
