"""From examples to token sequences with loss weights."""

from collections.abc import Sequence

from trainyard.core import errors
from trainyard.engine import types as engine
from trainyard.engine.tokenizer import Tokenizer, beside_loop
from trainyard.training.types import TrainingExample


async def encode(examples: Sequence[TrainingExample], tokenizer: Tokenizer, max_seq_length: int) -> list[engine.Datum]:
    """Encode a batch.

    Args:
        examples: As sent.
        tokenizer: Of the base model.
        max_seq_length: Longest example in tokens.

    Raises:
        errors.InvalidRequest: An example is too long, cannot be encoded or teaches nothing; it is named by its index.
    """
    characters = sum(_characters(example) for example in examples)
    return await beside_loop(
        characters, lambda: [_datum(index, one, tokenizer, max_seq_length) for index, one in enumerate(examples)]
    )


def _datum(index: int, example: TrainingExample, tokenizer: Tokenizer, max_seq_length: int) -> engine.Datum:
    where = f"batch_data[{index}]"
    try:
        ids, is_learned = _tokens(example, tokenizer)
    except errors.InvalidRequest as error:
        raise errors.InvalidRequest(f"{where}: {error.message}", code=error.code, param=where) from error
    if len(ids) > max_seq_length:
        raise errors.InvalidRequest(
            f"{where} has {len(ids)} tokens and max_seq_length of this run is {max_seq_length}; shorten or split it",
            code="example_too_long",
            param=where,
            data={"index": index, "tokens": len(ids), "max_seq_length": max_seq_length},
        )
    weights = [float(learned) for learned in is_learned[1:]]
    if not any(weights):
        raise errors.InvalidRequest(
            f"{where} has no token to learn ({len(ids)} in all); a text needs two tokens, a chat an assistant turn",
            code="nothing_to_learn",
            param=where,
            data={"index": index, "tokens": len(ids)},
        )
    return engine.Datum(tokens=engine.int32(ids[:-1]), targets=engine.int32(ids[1:]), weights=engine.float32(weights))


def _tokens(example: TrainingExample, tokenizer: Tokenizer) -> tuple[list[int], list[bool]]:
    """Give ids and which of them are learned; the first id is never predicted, so its mark does not count."""
    if example.text is not None:
        ids = tokenizer.encode(example.text)
        return ids, [True] * len(ids)
    return tokenizer.encode_chat_for_training([message.model_dump() for message in example.messages or ()])


def _characters(example: TrainingExample) -> int:
    return len(example.text or "") + sum(len(message.content) for message in example.messages or ())
