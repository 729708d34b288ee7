"""How many tokens something is at most, where the tokenizer of its model is not here.

A byte-level tokenizer makes no more tokens of a text than it has UTF-8 bytes, and a chat template adds a few per
message. So prompts reserve their bytes; what an upstream counted itself replaces that in the end. An upstream that
counts nothing is charged by the same bound, so that a limit never lets more through than it says.
"""

from collections.abc import Mapping, Sequence

import msgspec

from trainyard.serving.types import Chat, Prompt

PER_MESSAGE = 16
"""Tokens that a chat template puts around one message: role, separators, end of turn; common ones use 3 to 8."""


def prompt_bound(prompt: Prompt) -> int:
    """Bound the tokens of a prompt; ids are counted."""
    if isinstance(prompt, str):
        return text_bound(prompt)
    if not isinstance(prompt, Chat):
        return len(prompt)
    size = sum(_message_bound(message) for message in prompt.messages)
    for tool in prompt.tools:
        size += PER_MESSAGE + text_bound(tool.name) + text_bound(tool.description)
        size += len(msgspec.json.encode(tool.parameters))
    return size + PER_MESSAGE  # the beginning of the answer


def text_bound(text: str) -> int:
    """Bound the tokens of a text, at least 1."""
    return max(1, len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass")))


def drawn_bound(text: str, arguments: Sequence[str], max_tokens: int) -> int:
    """Bound the tokens of an answer by its text, the arguments of its calls, and its limit."""
    size = sum(text_bound(one) for one in (text, *arguments) if one)
    return min(max(size, 1), max_tokens)


def _message_bound(message: Mapping[str, object]) -> int:
    size = PER_MESSAGE
    for name, value in message.items():
        if name == "role":
            continue
        if isinstance(value, str):
            size += text_bound(value)
        elif value is not None:
            size += len(msgspec.json.encode(value))
    return size
