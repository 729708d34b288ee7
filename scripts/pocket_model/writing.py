"""Open requests: sentences, notes, poems, opinions, choices, jokes and riddles; any sensible answer is right."""

from collections.abc import Callable
from random import Random

from scripts.pocket_model import words
from scripts.pocket_model.exchange import Exchange, Slots, pick, read_tasks
from scripts.pocket_model.expand import a, capital, expand


def scene(rng: Random) -> dict[str, str]:
    """Draw people, animals, things and places for one text."""
    (name, he, his, him), (name2, he2, his2, him2) = rng.sample(words.names(), 2)
    she = rng.choice([row[0] for row in words.names() if row[1] == "she" and row[0] != name])
    animal, animal2 = (row[0] for row in rng.sample(words.rows("animals"), 2))
    return {
        "child": "girl" if he == "she" else "boy",
        "name": name,
        "he": he,
        "He": capital(he),
        "his": his,
        "His": capital(his),
        "him": him,
        "shename": she,
        "name2": name2,
        "he2": he2,
        "his2": his2,
        "him2": him2,
        "animal": animal,
        "animal2": animal2,
        "thing": rng.choice([t for t in words.items("things") if t[0] not in "aeiou"]),
        "place": rng.choice(words.items("places")),
        "colour": rng.choice([c for c in words.groups()["colour"] if c != "orange"]),
        "food": rng.choice(words.items("foods")),
        "country": rng.choice(words.rows("capitals"))[0],
        "day": rng.choice(words.groups()["day of the week"]),
        "hour": words.number(rng.randint(2, 11)),
    }


def _frame(kind: str) -> Callable[[Random], Slots]:
    frames = tuple(text for name, text in (line.split(" | ", 1) for line in words.lines("frames")) if name == kind)

    def draw(rng: Random) -> Slots:
        slots = scene(rng)
        slots["text"] = capital(expand(rng.choice(frames), slots, rng))
        return slots

    return draw


def _like(rng: Random) -> Slots:
    thing, good, bad = rng.choice(words.rows("likes"))
    is_plural = thing.endswith("s") and thing != "chess"
    return {
        "thing": thing,
        "good": good,
        "bad": bad,
        "Thing": capital(thing),
        "them": "them" if is_plural else "it",
        "are": "are" if is_plural else "is",
    }


def _choice(rng: Random) -> Slots:
    one, two = rng.sample(words.rows("likes"), 2)
    kept = rng.choice((one, two))
    return {"a": one[0], "b": two[0], "kept": kept[0], "good": kept[1]}


def _joke(rng: Random) -> Slots:
    return {"text": rng.choice(words.lines("jokes"))}


def _riddle(rng: Random) -> Slots:
    question, answer = rng.choice(words.rows("riddles"))
    return {"question": question, "answer": answer}


def _topic(rng: Random) -> Slots:
    word, meaning = rng.choice(words.rows("definitions"))
    return {"word": word, "meaning": meaning, "a_word": a(word)}


_FRAMES = ("sentence", "thanks", "invite", "sorry", "postcard", "diary", "poem", "plan", "excuse")
DRAWS: dict[str, Callable[[Random], Slots]] = {
    **{f"frame_{kind}": _frame(kind) for kind in _FRAMES},
    "like": _like,
    "choice": _choice,
    "joke": _joke,
    "riddle": _riddle,
    "topic": _topic,
}
TASKS = read_tasks("writing", DRAWS)


def make(rng: Random) -> Exchange:
    """Make one open exchange."""
    return pick(TASKS, rng)
