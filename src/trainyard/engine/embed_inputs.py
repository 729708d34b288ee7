"""What can be embedded, for every engine, free of torch."""

from trainyard.core import errors
from trainyard.engine import types


def read(request: types.EmbedRequest, vocab_size: int, max_positions: int, layers: int) -> list[list[int]]:
    """Decode and check the texts of a request.

    Raises:
        errors.InvalidRequest: A text is empty, too long or holds unknown ids, or there is no such layer.
    """
    if not request.inputs:
        raise errors.InvalidRequest("there is nothing to embed; send at least one text", param="input")
    if not -1 <= request.layer <= layers:
        message = f"layer = {request.layer}: this model has layers 0 (token embeddings) to {layers}, or -1"
        raise errors.InvalidRequest(message, param="layer")
    texts = [types.read_int32(raw) for raw in request.inputs]
    for number, ids in enumerate(texts):
        _check(ids, f"input[{number}]", vocab_size, max_positions)
    return texts


def _check(ids: list[int], where: str, vocab_size: int, max_positions: int) -> None:
    if not ids or min(ids) < 0 or max(ids) >= vocab_size:
        raise errors.InvalidRequest(f"{where} needs at least one token, all in 0..{vocab_size - 1}", param=where)
    if len(ids) > max_positions:
        message = f"{where} has {len(ids)} tokens; the context of this model holds {max_positions}"
        raise errors.InvalidRequest(message, code="context_length_exceeded", param=where)
