"""Types of serving: fields with their bounds, the wire of both dialects, and what the service works on."""

from trainyard.serving.types.domain import (
    Ask,
    Chat,
    Choice,
    EmbedAsk,
    Finish,
    ModelView,
    Piece,
    Prompt,
    Target,
    TokenInfo,
    Tool,
    ToolDelta,
    Vectors,
)
from trainyard.serving.types.generate import GenerateRequest, GenerateResponse
from trainyard.serving.types.openai import ChatRequest, CompletionRequest

__all__ = [
    "Ask",
    "Chat",
    "ChatRequest",
    "Choice",
    "CompletionRequest",
    "EmbedAsk",
    "Finish",
    "GenerateRequest",
    "GenerateResponse",
    "ModelView",
    "Piece",
    "Prompt",
    "Target",
    "TokenInfo",
    "Tool",
    "ToolDelta",
    "Vectors",
]
