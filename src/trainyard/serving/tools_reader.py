"""Tool calls out of a text that comes piece by piece."""

import json
import re
import secrets
from typing import Final, Literal

from trainyard.serving.tools import HERMES, Style
from trainyard.serving.types import ToolDelta

_BEGINNING: Final = '{"name":'


class ToolReader:
    """Tells text and calls apart, as the grammar of `tools.grammar` writes them.

    Attributes:
        calls: Calls that have begun.
    """

    def __init__(self, style: Style = HERMES) -> None:
        self.calls = 0
        self._style = style
        self._head = re.compile(r'\s*\{"name":("(?:[^"\\]|\\.)*"),"' + style.arguments + '":')
        self._has_begun = False
        self._state: Literal["text", "head", "arguments", "tail"] = "text"
        self._held = ""
        self._depth = 0
        self._is_string = self._is_escape = False

    def push(self, text: str) -> tuple[str, tuple[ToolDelta, ...]]:
        """Take more text: gives what is text for certain, and what is new of calls."""
        self._held += text
        said: list[str] = []
        deltas: list[ToolDelta] = []
        while self._advance(said, deltas):
            pass
        return "".join(said), tuple(deltas)

    def flush(self) -> str:
        """Give what was held back and is text after all, since nothing follows."""
        rest, self._held = (self._held if self._state == "text" else ""), ""
        return self._shown(rest)

    def _advance(self, said: list[str], deltas: list[ToolDelta]) -> bool:
        """Do one step; false when more text is needed."""
        match self._state:
            case "text":
                return self._read_text(said) if self._style.opener else self._read_beginning(said)
            case "head":
                head = self._head.match(self._held)
                if head is None:
                    return False
                call_id = f"call_{secrets.token_hex(12)}"
                deltas.append(ToolDelta(self.calls, id=call_id, name=json.loads(head.group(1))))
                self.calls += 1
                self._held, self._state = self._held[head.end() :], "arguments"
                return True
            case "arguments":
                return self._read_arguments(deltas)
            case "tail":
                _, marker, after = self._held.partition(self._style.closer) if self._style.closer else ("", "", "")
                if marker:
                    self._held, self._state = after, "text"
                return bool(marker)

    def _read_text(self, said: list[str]) -> bool:
        opener = self._style.opener
        before, marker, after = self._held.partition(opener)
        if not marker:
            keep = _overlap(self._held, opener)
            before, after = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        said.append(self._shown(before))
        self._held, self._state = after, "head" if marker else "text"
        return bool(marker)

    def _read_beginning(self, said: list[str]) -> bool:
        """Tell by its first letters whether the whole answer is a call."""
        if not self._has_begun and self._held.startswith(_BEGINNING):
            self._state = "head"
            return True
        if self._has_begun or not _BEGINNING.startswith(self._held):
            self._has_begun = True
            said.append(self._held)
            self._held = ""
        return False

    def _read_arguments(self, deltas: list[ToolDelta]) -> bool:
        end = next((at for at, letter in enumerate(self._held, 1) if self._closes(letter)), None)
        part = self._held[:end]
        if part:
            deltas.append(ToolDelta(self.calls - 1, arguments=part))
        self._held = self._held[len(part) :]
        if end is not None:
            self._state = "tail"
        return end is not None

    def _closes(self, letter: str) -> bool:
        """Read one letter of an object; whether it is its last one."""
        if self._is_string:
            self._is_string = self._is_escape or letter != '"'
            self._is_escape = letter == "\\" and not self._is_escape
        elif letter == '"':
            self._is_string = True
        elif letter in "[{":
            self._depth += 1
        elif letter in "]}":
            self._depth -= 1
            return self._depth == 0
        return False

    def _shown(self, text: str) -> str:
        """Leave out the white space between calls."""
        return "" if self.calls and not text.strip() else text


def _overlap(text: str, opener: str) -> int:
    """Count the letters at the end that may be the beginning of a marker."""
    longest = min(len(opener) - 1, len(text))
    return next((size for size in range(longest, 0, -1) if opener.startswith(text[-size:])), 0)
