"""Wire types of the training interface: every field with its bounds and its meaning."""

from trainyard.training.types.config import EffectiveConfig, Projection, RunConfig
from trainyard.training.types.embeddings import EmbeddingsRequest, EmbeddingsResponse
from trainyard.training.types.examples import Message, TrainingExample
from trainyard.training.types.primitives import (
    ForwardBackwardMetrics,
    ForwardBackwardRequest,
    ForwardBackwardResponse,
    GradStats,
    OptimMetrics,
    OptimStepRequest,
    OptimStepResponse,
)
from trainyard.training.types.runs import (
    CompleteResponse,
    GpuAssignment,
    MetricsResponse,
    ModelsResponse,
    RolledBack,
    RunList,
    RunResponse,
    RunState,
    RunStatus,
)
from trainyard.training.types.sampling import SampleRequest, SampleResponse, StreamRequest, TokenChunk
from trainyard.training.types.saving import Artifact, FileFacts, SaveStateRequest, SaveStateResponse
from trainyard.training.types.text import (
    ChatTemplateRequest,
    ChatTemplateResponse,
    DetokenizeRequest,
    DetokenizeResponse,
    ModelInfoResponse,
    TokenizeRequest,
    TokenizeResponse,
    TokenizerInfoResponse,
)

__all__ = [
    "Artifact",
    "ChatTemplateRequest",
    "ChatTemplateResponse",
    "CompleteResponse",
    "DetokenizeRequest",
    "DetokenizeResponse",
    "EffectiveConfig",
    "EmbeddingsRequest",
    "EmbeddingsResponse",
    "FileFacts",
    "ForwardBackwardMetrics",
    "ForwardBackwardRequest",
    "ForwardBackwardResponse",
    "GpuAssignment",
    "GradStats",
    "Message",
    "MetricsResponse",
    "ModelInfoResponse",
    "ModelsResponse",
    "OptimMetrics",
    "OptimStepRequest",
    "OptimStepResponse",
    "Projection",
    "RolledBack",
    "RunConfig",
    "RunList",
    "RunResponse",
    "RunState",
    "RunStatus",
    "SampleRequest",
    "SampleResponse",
    "SaveStateRequest",
    "SaveStateResponse",
    "StreamRequest",
    "TokenChunk",
    "TokenizeRequest",
    "TokenizeResponse",
    "TokenizerInfoResponse",
    "TrainingExample",
]
