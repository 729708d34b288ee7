"""Turns templates into sentences: `[slot]` is filled in, `{a|b}` is a choice."""

import re
from collections.abc import Mapping
from random import Random

_SLOT = re.compile(r"\[(\w+)\]")
_CHOICE = re.compile(r"\{([^{}]*)\}")
_BEFORE_VOWEL = re.compile(r"\b([Aa]) (?=(?!uni|use|one\b)[aeiou]\w)")


def expand(template: str, slots: Mapping[str, str], rng: Random) -> str:
    """Resolve every choice at random, innermost first, fill the slots, and write "an" before vowels.

    Raises:
        KeyError: the template names a slot that is not given.
    """
    while "{" in template:
        template = _CHOICE.sub(lambda match: rng.choice(match.group(1).split("|")), template)
    return _BEFORE_VOWEL.sub(r"\1n ", _SLOT.sub(lambda match: slots[match.group(1)], template))


def capital(text: str) -> str:
    """Write the first character as a capital and leave the rest alone."""
    return text[:1].upper() + text[1:]


def a(noun: str) -> str:
    """Put the fitting indefinite article before a noun."""
    return f"an {noun}" if noun[0].lower() in "aeiou" and not noun.startswith(("uni", "use")) else f"a {noun}"


def join(items: list[str], last: str = "and") -> str:
    """Write a list as English does: commas, and a word before the last item."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}"
