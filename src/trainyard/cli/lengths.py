"""Whether every line fits into a run, asked before the first step instead of found in the middle of an epoch."""

from collections.abc import Iterator, Sequence

from trainyard.cli import dataset
from trainyard.core import errors
from trainyard.sdk.run import Run

TURN_TOKENS = 16
"""A chat template writes fewer around one turn: 5 in ChatML, 4 in Llama 3's."""
CHAT_TOKENS = 64
"""A chat template writes fewer around a chat: about 25 for Qwen2's own system message, 30 for Llama 3's dates."""


def check(run: Run, lines: Sequence[dataset.Line], name: str) -> None:
    """Ask the server for the length of every line that could be too long for the run.

    Args:
        run: Its tokenizer counts, its `max_seq_length` is the bound.
        lines: As read.
        name: Of the file, for the message.

    Raises:
        errors.InvalidRequest: Some lines are longer; the message names them with their numbers and lengths.
    """
    bound = int(run.config.max_seq_length)
    too_long = [f"line {number}: {tokens} tokens" for number, tokens in _measured(run, lines, bound) if tokens > bound]
    if too_long:
        raise errors.InvalidRequest(
            f"a line of this run may have {bound} tokens (max_seq_length), and {name} has "
            f"{dataset.listed(too_long, 'longer ')}; shorten or split what is longer",
            code="example_too_long",
            param="data",
        )


def most_tokens(line: dataset.Line) -> int:
    """Bound the tokens of a line without its tokenizer: no token holds less than one byte of the text.

    A template that writes more than expected only means that the server, not this command, finds the line.
    """
    texts = [line.example["text"]] if "text" in line.example else [turn["content"] for turn in line.example["messages"]]
    return sum(len(text.encode()) + TURN_TOKENS for text in texts) + CHAT_TOKENS


def _measured(run: Run, lines: Sequence[dataset.Line], bound: int) -> Iterator[tuple[int, int]]:
    for line in sorted(lines, key=lambda one: one.number):
        if most_tokens(line) > bound:
            yield line.number, _tokens(run, line)


def _tokens(run: Run, line: dataset.Line) -> int:
    text = line.example.get("text")
    if text is not None:
        return len(run.tokenize(text).token_ids[0])
    return len(run.apply_chat_template(line.example["messages"]).token_ids)
