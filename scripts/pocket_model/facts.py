"""Questions whose answers stand in the word lists: animals, opposites, colours, capitals, jobs, groups, meanings."""

from collections.abc import Callable
from random import Random

from scripts.pocket_model import words
from scripts.pocket_model.exchange import Slots, read_tasks
from scripts.pocket_model.expand import a, capital, join

_MASS = """
thunder fog frost dawn dusk midnight bread butter cheese honey salt sugar flour soup jam pepper vinegar wool cotton
leather paper glass steel gold coal oil steam ice smoke gravity energy medicine courage patience kindness honesty joy
anger fear hope pride peace danger money breakfast supper cargo
"""
_UNCOUNTED = frozenset(_MASS.split())
_UNIQUE = frozenset(("moon", "horizon", "alphabet", "tide", "sunset"))
_ANIMAL = ("animal", "sound", "home", "food", "young", "cover", "legs", "colour")


def _animal(rng: Random) -> Slots:
    row = dict(zip(_ANIMAL, rng.choice(words.rows("animals")), strict=True))
    return row | {"an_animal": a(row["animal"]), "An_animal": capital(a(row["animal"])), "a_young": a(row["young"])}


def _row(table: str, *columns: str) -> Callable[[Random], Slots]:
    return lambda rng: dict(zip(columns, rng.choice(words.rows(table)), strict=True))


def _pair(table: str, left: str, right: str) -> Callable[[Random], Slots]:
    return lambda rng: dict(zip((left, right), rng.choice(words.pairs(table)), strict=True))


def _opposite(rng: Random) -> Slots:
    pair = list(rng.choice(words.pairs("opposites")))
    rng.shuffle(pair)
    return {"word": pair[0], "other": pair[1]}


def _colour(rng: Random) -> Slots:
    thing, colour = rng.choice(words.rows("colours"))
    return {"thing": thing, "Thing": capital(thing), "colour": colour}


def _job(rng: Random) -> Slots:
    job, what, place, tool = rng.choice(words.rows("jobs"))
    return {"job": job, "a_job": a(job), "A_job": capital(a(job)), "what": what, "place": place, "tool": tool}


def _meaning(rng: Random) -> Slots:
    word, meaning = rng.choice(words.rows("definitions"))
    phrase = word if word in _UNCOUNTED else f"the {word}" if word in _UNIQUE else a(word)
    return {"word": word, "a_word": phrase, "A_word": capital(phrase), "meaning": meaning}


def _member(rng: Random) -> Slots:
    group = rng.choice(list(words.groups()))
    return {"word": rng.choice(words.groups()[group]), "group": group, "a_group": a(group)}


def _member_slots(rng: Random) -> Slots:
    slots = dict(_member(rng))
    word = slots["word"]
    slots["a_word"] = word if word[0].isupper() else a(word)
    slots["A_word"] = capital(slots["a_word"])
    return slots


def _is_member(rng: Random) -> Slots:
    slots = dict(_member_slots(rng))
    asked = slots["group"] if rng.random() < 0.5 else rng.choice(list(words.groups()))
    yes = slots["word"] in words.groups()[asked]
    verdict = f"Yes, {slots['a_word']} is {a(asked)}." if yes else f"No, {slots['a_word']} is {slots['a_group']}."
    return slots | {"a_asked": a(asked), "verdict": verdict, "yes": "Yes" if yes else "No"}


def _odd_one(rng: Random) -> Slots:
    group, other = rng.sample(["fruit", "tool", "bird", "instrument", "garment", "metal", "tree", "vehicle"], 2)
    members = rng.sample(words.groups()[group], 3)
    odd = rng.choice(words.groups()[other])
    shown = [*members, odd]
    rng.shuffle(shown)
    return {"list": ", ".join(shown), "odd": odd, "a_group": a(group), "Odd": capital(a(odd))}


def _some(count: int) -> Callable[[Random], Slots]:
    def draw(rng: Random) -> Slots:
        group = rng.choice([name for name in words.groups() if " of " not in name])
        members = rng.sample(words.groups()[group], count)
        plural = {"fish": "fish", "bus": "buses"}.get(group, f"{group}s")
        return {"groups": plural, "list": join(members), "List": capital(join(members))}

    return draw


def _calendar(rng: Random) -> Slots:
    group, kind = rng.choice([("day of the week", "day"), ("month", "month"), ("season", "season")])
    names = words.groups()[group]
    place = rng.randrange(len(names))
    return {
        "kind": kind,
        "word": names[place],
        "next": names[(place + 1) % len(names)],
        "before": names[place - 1],
        "Next": capital(names[(place + 1) % len(names)]),
        "Before": capital(names[place - 1]),
    }


def _rhyme(rng: Random) -> Slots:
    row = rng.choice(words.items("rhymes")).split()
    word, rhyme = rng.sample(row, 2)
    return {"word": word, "rhyme": rhyme, "Word": capital(word)}


DRAWS: dict[str, Callable[[Random], Slots]] = {
    "animal": _animal,
    "opposite": _opposite,
    "colour": _colour,
    "capital": _row("capitals", "land", "city"),
    "rhyme": _rhyme,
    "meaning": _meaning,
    "job": _job,
    "member": _member_slots,
    "is_member": _is_member,
    "odd_one": _odd_one,
    "two": _some(2),
    "three": _some(3),
    "calendar": _calendar,
    "plural": _pair("irregular", "one", "many"),
    "past": _pair("pasts", "now", "then"),
}
TASKS = read_tasks("facts", DRAWS)
BY_NAME = {task.name: task for task in TASKS}
