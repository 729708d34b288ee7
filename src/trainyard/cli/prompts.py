"""Where a prompt comes from when it is not an argument."""

import sys

from trainyard.core import errors


def given_or_piped(text: str | None, option: str) -> str:
    """Take the text, or all of standard input when that is not a terminal.

    Raises:
        errors.InvalidRequest: There is neither.
    """
    if text is not None:
        return text
    if sys.stdin.isatty():
        raise errors.InvalidRequest(f"give a text as {option} or on standard input", param=option)
    return sys.stdin.read()
