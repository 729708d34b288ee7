"""Work on lists and letters: copy, reverse, sort, pick, count, join, spell."""

from collections.abc import Callable
from random import Random

from scripts.pocket_model import words
from scripts.pocket_model.exchange import Slots, read_tasks
from scripts.pocket_model.expand import capital, join


def _items(low: int, high: int) -> Callable[[Random], Slots]:
    def draw(rng: Random) -> Slots:
        chosen = rng.sample(words.stock(), rng.randint(low, high))
        pool = list(chosen)
        rng.shuffle(pool)
        place = rng.randrange(len(chosen))
        rest = chosen[:place] + chosen[place + 1 :]
        return {
            "list": ", ".join(chosen),
            "reverse": ", ".join(reversed(chosen)),
            "sorted": ", ".join(sorted(chosen)),
            "first": chosen[0],
            "last": chosen[-1],
            "count": words.number(len(chosen)),
            "digit": str(len(chosen)),
            "longest": max(chosen, key=len),
            "shortest": min(chosen, key=len),
            "joined": join(chosen),
            "bullets": "\n".join(f"- {word}" for word in chosen),
            "numbered": "\n".join(f"{index}. {word}" for index, word in enumerate(chosen, 1)),
            "one": chosen[place],
            "without": ", ".join(rest),
            "ordinal": words.ORDINALS[place],
            "One": capital(chosen[place]),
            "ored": join(chosen, "or"),
        }

    return draw


def _plus_one(rng: Random) -> Slots:
    *chosen, extra = rng.sample(words.stock(), rng.randint(3, 5))
    return {"list": ", ".join(chosen), "extra": extra, "longer": ", ".join([*chosen, extra])}


def _contains(rng: Random) -> Slots:
    *chosen, other = rng.sample(words.stock(), rng.randint(3, 6))
    asked = rng.choice(chosen) if rng.random() < 0.5 else other
    verdict = f"Yes, {asked} is in the list." if asked in chosen else f"No, {asked} is not in the list."
    return {"list": ", ".join(chosen), "asked": asked, "verdict": verdict, "yes": verdict.split(",")[0]}


def _word(rng: Random) -> Slots:
    word = rng.choice([word for word in words.stock() if word.isalpha() and len(word) < 8])
    return {
        "word": word,
        "letters": "-".join(word),
        "first": word[0],
        "last": word[-1],
        "count": words.number(len(word)),
        "upper": word.upper(),
        "Word": capital(word),
    }


def _phrase(rng: Random) -> Slots:
    name, he, _, _ = rng.choice(words.names())
    thing, place = rng.choice(words.items("things")), rng.choice(words.items("places"))
    colour = rng.choice(words.groups()["colour"])
    verb = rng.choice(("saw", "found", "took", "lost", "liked", "had", "sold", "hid"))
    phrase = rng.choice(
        (
            f"{name} {verb} a {colour} {thing}",
            f"the {thing} is in {place}",
            f"{name} is {he} who {verb} it",
            f"we meet {name} at {place}",
            f"no {thing} without {colour} paint",
            f"good luck, {name}",
        )
    )
    return {"phrase": phrase, "Phrase": capital(phrase) + "."}


DRAWS: dict[str, Callable[[Random], Slots]] = {
    **{f"items_{low}_{high}": _items(low, high) for low in (2, 3) for high in (4, 5, 6, 7)},
    "plus_one": _plus_one,
    "contains": _contains,
    "word": _word,
    "phrase": _phrase,
}
TASKS = read_tasks("lists", DRAWS)
