"""Request and answer of `embeddings`."""

from typing import Literal

from pydantic import Field

from trainyard.training.types.base import Request, Result, Text


class EmbeddingsRequest(Request):
    """What `embeddings` takes."""

    texts: list[Text] = Field(min_length=1, max_length=128, description="1 to 128 texts.")
    layer: int = Field(
        default=-1,
        ge=-1,
        le=1024,
        description="Whose output is pooled: 0 = token embeddings, n = after layer n, -1 = the last with its norm.",
    )
    pooling: Literal["mean", "last_token", "cls_token"] = Field(
        default="mean", description="Over the tokens of a text: their mean, the last one, or the first one."
    )


class EmbeddingsResponse(Result):
    """What `embeddings` answers."""

    embeddings: list[list[float]] = Field(description="One vector per text, in their order; not normalised.")
    dimensions: int = Field(description="Numbers in each vector: the hidden size of the model.")
    weights_version: str = Field(description="`<run_id>@<step>` whose weights read the texts.")
