"""The word lists under `data/`, read once."""

from functools import cache
from pathlib import Path

_DATA = Path(__file__).parent / "data"

_UNITS = """
zero one two three four five six seven eight nine ten
eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty
"""
COUNT_WORDS = tuple(_UNITS.split())
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh")


@cache
def lines(name: str) -> tuple[str, ...]:
    """Read a list file without its comments and empty lines."""
    text = (_DATA / f"{name}.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line.strip() and not line.startswith("#"))


@cache
def rows(name: str) -> tuple[tuple[str, ...], ...]:
    """Read a table whose columns are divided by bars, one row per line."""
    return tuple(tuple(cell.strip() for cell in line.split("|")) for line in lines(name))


@cache
def items(name: str) -> tuple[str, ...]:
    """Read a list whose items are divided by bars, over all lines."""
    return tuple(cell.strip() for line in lines(name) for cell in line.split("|"))


@cache
def pairs(name: str) -> tuple[tuple[str, str], ...]:
    """Read two-word items."""
    return tuple((left, right) for left, right in (item.split() for item in items(name)))


@cache
def groups() -> dict[str, tuple[str, ...]]:
    """Name the members of every group, such as the fruits."""
    split = (line.split(":") for line in lines("groups"))
    return {name.strip(): tuple(word.strip() for word in members.split(",")) for name, members in split}


@cache
def names() -> tuple[tuple[str, str, str, str], ...]:
    """List first names, each with its he, his and him."""
    she, he = (line.split() for line in lines("names"))
    return tuple((name, "she", "her", "her") for name in she) + tuple((name, "he", "his", "him") for name in he)


@cache
def stock() -> tuple[str, ...]:
    """List all plain nouns that stand in lists, in a fixed order and without repeats."""
    nouns = [word for members in groups().values() for word in members if word.islower()]
    nouns += [row[0] for row in rows("animals")] + list(items("things")) + [row[0] for row in rows("definitions")]
    return tuple(dict.fromkeys(nouns))


def number(value: int) -> str:
    """Write a whole number from 0 to 99 in words."""
    if value <= 20:
        return COUNT_WORDS[value]
    tens, ones = divmod(value, 10)
    return _TENS[tens] + (f"-{COUNT_WORDS[ones]}" if ones else "")
