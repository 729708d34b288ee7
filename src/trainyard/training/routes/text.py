"""`tokenize`, `detokenize`, `tokenizer_info`, `model_info` and `apply_chat_template`."""

from fastapi import APIRouter

from trainyard.training import types
from trainyard.training.routes.access import RunId, Trainer
from trainyard.training.service import TrainingService


def add(routes: APIRouter, service: TrainingService) -> None:
    """Add what shows how the base model of a run reads text."""

    @routes.post("/runs/{run_id}/tokenize", tags=["text"], summary="Text to ids")
    async def tokenize(who: Trainer, run_id: RunId, request: types.TokenizeRequest) -> types.TokenizeResponse:
        """Turn one text or several into ids."""
        return await service.text.tokenize(who, run_id, request)

    @routes.post("/runs/{run_id}/detokenize", tags=["text"], summary="Ids to text")
    async def detokenize(who: Trainer, run_id: RunId, request: types.DetokenizeRequest) -> types.DetokenizeResponse:
        """Turn one list of ids or several into text."""
        return await service.text.detokenize(who, run_id, request)

    @routes.get("/runs/{run_id}/tokenizer_info", tags=["text"], summary="The tokenizer of a run")
    async def tokenizer_info(who: Trainer, run_id: RunId) -> types.TokenizerInfoResponse:
        """Describe vocabulary and special tokens."""
        return await service.text.tokenizer_info(who, run_id)

    @routes.get("/runs/{run_id}/model_info", tags=["text"], summary="The base model of a run")
    async def model_info(who: Trainer, run_id: RunId) -> types.ModelInfoResponse:
        """Describe architecture, size, context and chat template."""
        return await service.text.model_info(who, run_id)

    @routes.post("/runs/{run_id}/apply_chat_template", tags=["text"], summary="Render a chat")
    async def apply_chat_template(
        who: Trainer, run_id: RunId, request: types.ChatTemplateRequest
    ) -> types.ChatTemplateResponse:
        """Render a chat as the model reads it."""
        return await service.text.apply_chat_template(who, run_id, request)
