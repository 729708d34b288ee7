"""Putting the pieces of one answer together."""

from collections.abc import Sequence

from trainyard.serving.types.domain import Piece, ToolDelta


def join(pieces: Sequence[Piece]) -> Piece:
    """Make one piece of all pieces of one finished stream."""
    if len(pieces) == 1:
        return pieces[0]
    last = pieces[-1]
    told = [piece.prompt_tokens for piece in pieces if piece.prompt_tokens is not None]
    return Piece(
        text="".join([piece.text for piece in pieces]),
        tokens=tuple(token for piece in pieces for token in piece.tokens),
        tool_calls=_whole_calls([delta for piece in pieces for delta in piece.tool_calls]),
        finish_reason=last.finish_reason,
        completion_tokens=last.completion_tokens,
        prompt_tokens=told[-1] if told else None,
        cached_tokens=max(piece.cached_tokens for piece in pieces),
        version=last.version,
        model=last.model,
    )


def _whole_calls(deltas: Sequence[ToolDelta]) -> tuple[ToolDelta, ...]:
    """Put the parts of each tool call together, by index."""
    if not deltas:
        return ()
    parts: dict[int, list[ToolDelta]] = {}
    for delta in deltas:
        parts.setdefault(delta.index, []).append(delta)
    return tuple(
        ToolDelta(
            index,
            id=next((one.id for one in mine if one.id is not None), None),
            name=next((one.name for one in mine if one.name is not None), None),
            arguments="".join([one.arguments for one in mine]),
        )
        for index, mine in sorted(parts.items())
    )
