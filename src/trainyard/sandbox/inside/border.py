"""Calls of what the user's objects define: the one place where any exception of theirs ends."""

from collections.abc import Callable
from typing import Any

MAX_REASON_CHARS = 300


def attempt(call: Callable[..., Any], *args: Any, **named: Any) -> tuple[Any, str | None]:
    """Call it; gives (what it returned, None), or (None, how it failed).

    KeyboardInterrupt passes through: with it the runner ends what takes too long.
    """
    try:
        return call(*args, **named), None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - the edge to the user's code, which raises what it likes, SystemExit too
        return None, told(error)


def said_of(kind: type, name: str) -> Any:
    """Give the `__name__`, `__qualname__` or `__module__` of a class, whatever its metaclass would say."""
    return type.__dict__[name].__get__(kind)


def clean(text: str) -> str:
    """Make text that UTF-8 can hold, and that is a plain `str`, of any string of the user's."""
    return text.encode("utf-8", "replace").decode()


def told(error: BaseException) -> str:
    """Name an exception in one bounded line, although its own text may be long, hostile or raise."""
    kind = said_of(type(error), "__name__")
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - the same edge: `__str__` of the user's exception
        text = "its text cannot be had"
    line = clean(f"{kind}: {text}" if text else str(kind))
    return line if len(line) <= MAX_REASON_CHARS else line[: MAX_REASON_CHARS - 1] + "…"
