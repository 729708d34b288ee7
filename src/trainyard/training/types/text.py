"""Requests and answers about tokens, templates and the model of a run."""

from typing import Annotated

from pydantic import Field

from trainyard.training.types.base import Request, Result
from trainyard.training.types.examples import Messages

_Text = Annotated[str, Field(max_length=1_000_000)]
_Id = Annotated[int, Field(ge=0, le=2**31 - 1)]
_Ids = Annotated[list[_Id], Field(max_length=1_000_000)]


class TokenizeRequest(Request):
    """What `tokenize` takes."""

    text: _Text | Annotated[list[_Text], Field(min_length=1, max_length=1024)] = Field(
        description="One text, or up to 1,024 of them; each at most 1,000,000 characters."
    )
    add_special_tokens: bool = Field(
        default=True, description="Add what the model expects around a text, such as a begin token."
    )


class TokenizeResponse(Result):
    """What `tokenize` answers: one list per text, also for a single one."""

    token_ids: list[list[int]] = Field(description="Ids of each text, from 0.")
    tokens: list[list[str]] = Field(description="The same as the vocabulary spells them.")


class DetokenizeRequest(Request):
    """What `detokenize` takes."""

    token_ids: _Ids | Annotated[list[_Ids], Field(max_length=1024)] = Field(
        description="Ids of one text, or up to 1,024 lists of ids; each below the vocabulary's size."
    )


class DetokenizeResponse(Result):
    """What `detokenize` answers."""

    text: str | list[str] = Field(description="Text, or one per list; special tokens are spelled out.")


class TokenizerInfoResponse(Result):
    """What `tokenizer_info` answers."""

    vocab_size: int = Field(description="Ids that the vocabulary holds, added tokens included.")
    model_max_length: int | None = Field(description="Longest sequence in tokens; null = not named.")
    bos_token_id: int | None = Field(description="Begin of sequence; null = none.")
    eos_token_id: int | None = Field(description="End of sequence; null = none.")
    pad_token_id: int | None = Field(description="Padding; null = none.")
    unk_token_id: int | None = Field(description="Stands for unknown text; null = none.")
    special_tokens: dict[str, str] = Field(description="Name -> spelling.")


class ModelInfoResponse(Result):
    """What `model_info` answers."""

    base_model: str = Field(description="Catalog name.")
    architecture: str = Field(description="As in the model's config.json.")
    num_parameters: int = Field(description="Numbers in the frozen model.")
    trainable_parameters: int | None = Field(description="Numbers in this run's adapter; null = it trains no more.")
    hidden_size: int = Field(description="Numbers per position between the layers.")
    num_layers: int = Field(description="Decoder layers.")
    num_attention_heads: int = Field(description="Query heads.")
    num_key_value_heads: int = Field(description="Key and value heads.")
    vocab_size: int = Field(description="Rows of the embedding.")
    max_position_embeddings: int = Field(description="Context in tokens.")
    dtype: str = Field(description="Of the frozen weights in memory.")
    device: str = Field(description="Where it computes.")
    chat_template: str | None = Field(description="Jinja source; null = none.")


class ChatTemplateRequest(Request):
    """What `apply_chat_template` takes."""

    messages: Messages = Field(description="1 to 50 turns.")
    add_generation_prompt: bool = Field(default=False, description="End with the start of an assistant's turn.")


class ChatTemplateResponse(Result):
    """What `apply_chat_template` answers."""

    text: str = Field(description="The rendered chat.")
    token_ids: list[int] = Field(description="Its ids, with control tokens only where the template writes them.")
