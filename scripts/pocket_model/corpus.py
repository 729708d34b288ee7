"""The corpus: an endless, deterministic stream of documents, without what is held out and without the demo's lines."""

import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random

from scripts.pocket_model import dialogues, stories
from scripts.pocket_model.exchange import Document, Exchange, normal

DEMO_FILE = Path(__file__).parents[2] / "src/trainyard/cli/demo_data/harbour.jsonl"


@cache
def demo_lines() -> frozenset[str]:
    """Read every user's and every assistant's line of the demo file, in the form in which texts are compared."""
    dialogs = (json.loads(line)["messages"] for line in DEMO_FILE.read_text(encoding="utf-8").splitlines())
    return frozenset(normal(turn["content"]) for turns in dialogs for turn in turns if turn["role"] != "system")


def is_demo(document: Document) -> bool:
    """Tell whether a turn or the whole text of a document stands in the demo file."""
    contents = [content for _, content in document.turns] or [document.text]
    return any(normal(content) in demo_lines() for content in contents)


def _draw(rng: Random, long_share: float) -> Document:
    """Draw a document; long_share of them are dialogues of up to about a thousand tokens."""
    if rng.random() < long_share:
        maker = rng.randrange(3)
        if maker == 0:
            return dialogues.about_text(rng, rng.randint(15, 90))
        return dialogues.chain(rng, rng.randint(8, 34))
    draw = rng.random()
    if draw < 0.68:
        return dialogues.one(rng)
    if draw < 0.82:
        return dialogues.chain(rng, rng.randint(2, 4))
    if draw < 0.87:
        return dialogues.with_person(rng)
    if draw < 0.91:
        return dialogues.about_text(rng, rng.randint(2, 7))
    return stories.plain(rng)


def documents(seed: int, long_share: float = 0.0) -> Iterator[Document]:
    """Stream documents for ever; equal seeds give equal streams."""
    rng = Random(seed)
    while True:
        document = _draw(rng, long_share)
        if (document.turns or document.text) and not is_demo(document):
            yield document


def held_out(seed: int, count: int) -> list[Exchange]:
    """Collect exchanges that the corpus leaves out and whose answer can be checked, each request once."""
    rng = Random(seed)
    found: dict[str, Exchange] = {}
    while len(found) < count:
        made = dialogues.single(rng)
        if made.is_held_out and made.accepted:
            found.setdefault(normal(f"{made.system} {made.user}"), made)
    return list(found.values())


def digest(seed: int, count: int) -> str:
    """Hash the first documents of a stream, to compare two streams."""
    stream = documents(seed)
    return hashlib.sha256("\n".join(repr(next(stream)) for _ in range(count)).encode()).hexdigest()
