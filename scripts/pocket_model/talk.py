"""Small talk and everyday questions from `data/talk.txt`: each line has its wordings and its answers."""

from functools import cache
from random import Random

from scripts.pocket_model import words
from scripts.pocket_model.exchange import Exchange


@cache
def blocks() -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
    """Read the wordings and the answers of every block."""
    read = []
    for line in words.lines("talk"):
        asks, answers = line.split(" => ")
        read.append((tuple(asks.split(" / ")), tuple(answers.split(" / "))))
    return tuple(read)


def make(rng: Random) -> Exchange:
    """Draw a block, one of its wordings and one of its answers; all its answers count as right."""
    number = rng.randrange(len(blocks()))
    asks, answers = blocks()[number]
    wording = rng.randrange(len(asks))
    return Exchange(f"talk/{number}/{wording}", asks[wording], rng.choice(answers), answers)
