"""Reading: a short or long text is given, in the request or in the system message, and the answer stands in it."""

from dataclasses import dataclass
from random import Random

from scripts.pocket_model import words
from scripts.pocket_model.exchange import Exchange
from scripts.pocket_model.expand import a, expand

_HAS = ("has", "bought", "found", "lost", "likes", "painted", "sold")
_BEFORE = (
    "Read this: [text]\n[question]",
    "[text]\n[question]",
    "[text] [question]",
    "Text: [text]\nQuestion: [question]",
    "Here is a text: [text]\n[question]",
    "Answer the question about the text.\n[text]\n[question]",
    "[text]\n\n[question]",
)
_AFTER = ("[question] [text]", "[question]\n[text]", "Question: [question]\nText: [text]")
_SYSTEM = (
    "[text]",
    "Facts: [text]",
    "You know this: [text]",
    "Answer from this text: [text]",
    "Use these facts. [text]",
    "You are a helpful assistant. [text]",
)


@dataclass(frozen=True)
class Fact:
    """One statement with the questions it answers, each as (kind, question, answer, short answer)."""

    text: str
    asks: tuple[tuple[str, str, str, str], ...]


def _place(name: str, rng: Random) -> Fact:
    place, verb = rng.choice(words.items("places")), rng.choice(("is", "works", "waits", "sits", "sleeps"))
    text = f"{name} {verb} in {place}."
    if place.split()[-1] in ("beach", "river", "lake", "market", "harbour", "mill", "bridge", "square"):
        text = f"{name} {verb} at {place}."
    return Fact(
        text,
        (
            ("where", f"Where is {name}?", text.replace(f" {verb} ", " is "), ""),
            ("where_is", f"In which place is {name}?", text.replace(f" {verb} ", " is "), ""),
            ("who_in", f"Who {verb} {text.split(f' {verb} ')[1][:-1]}?", text, name),
        ),
    )


def _thing(name: str, rng: Random) -> Fact:
    thing = rng.choice([word for word in words.items("things") if word != "apple"])
    colour, verb = rng.choice(words.groups()["colour"]), rng.choice(_HAS)
    text = f"{name} {verb} {a(colour)} {thing}."
    base = {
        "has": "have",
        "bought": "buy",
        "found": "find",
        "lost": "lose",
        "likes": "like",
        "painted": "paint",
        "sold": "sell",
    }[verb]
    do = "does" if verb in ("has", "likes") else "did"
    return Fact(
        text,
        (
            ("what", f"What {do} {name} {base}?", text, ""),
            ("who", f"Who {verb} {a(colour)} {thing}?", text, name),
            ("who_thing", f"Who {verb} {a(thing)}?", text, name),
            ("colour", f"What colour is the {thing} of {name}?", f"The {thing} of {name} is {colour}.", colour),
            ("colour_of", f"Which colour does the {thing} have?", f"The {thing} is {colour}.", colour),
        ),
    )


def _job(name: str, rng: Random) -> Fact:
    job = rng.choice(words.rows("jobs"))[0]
    text = f"{name} is {a(job)}."
    return Fact(
        text,
        (
            ("job", f"What is the job of {name}?", text, job),
            ("job_of", f"What does {name} do for a living?", text, job),
            ("who_job", f"Who is {a(job)}?", text, name),
        ),
    )


def _age(name: str, rng: Random) -> Fact:
    years = rng.randint(3, 90)
    text = f"{name} is {years} years old."
    return Fact(
        text,
        (
            ("age", f"How old is {name}?", text, str(years)),
            ("age_of", f"What is the age of {name}?", text, str(years)),
            ("who_age", f"Who is {years} years old?", text, name),
        ),
    )


def _pet(name: str, rng: Random) -> Fact:
    animal = rng.choice(words.rows("animals"))[0]
    pet = rng.choice([row[0] for row in words.names() if row[0] != name])
    text = f"{name} has {a(animal)} called {pet}."
    return Fact(
        text,
        (
            ("pet", f"Which animal does {name} have?", f"{name} has {a(animal)}.", animal),
            ("pet_name", f"What is the {animal} of {name} called?", f"The {animal} of {name} is called {pet}.", pet),
            ("who_pet", f"Who has {a(animal)}?", f"{name} has {a(animal)}.", name),
        ),
    )


def _time(name: str, rng: Random) -> Fact:
    day, hour = rng.choice(words.groups()["day of the week"]), words.number(rng.randint(1, 12))
    verb = rng.choice(("comes", "leaves", "arrives", "calls", "starts"))
    text = f"{name} {verb} on {day} at {hour} o'clock."
    base = verb[:-1]
    return Fact(
        text,
        (
            ("day", f"On which day does {name} {base}?", f"{name} {verb} on {day}.", day),
            ("hour", f"At what time does {name} {base}?", f"{name} {verb} at {hour} o'clock.", ""),
            ("when", f"When does {name} {base}?", text, ""),
        ),
    )


def _city(name: str, rng: Random) -> Fact:
    city = rng.choice(words.rows("capitals"))[1]
    text = f"{name} lives in {city}."
    return Fact(
        text,
        (
            ("city", f"Where does {name} live?", text, city),
            ("city_of", f"In which city does {name} live?", text, city),
            ("who_city", f"Who lives in {city}?", text, name),
        ),
    )


def _food(name: str, rng: Random) -> Fact:
    food = rng.choice(words.items("foods"))
    text = f"{name} {rng.choice(('loves', 'likes', 'eats'))} {food}."
    return Fact(
        text,
        (
            ("food", f"What food does {name} like?", f"{name} likes {food}.", food),
            ("food_of", f"What should I cook for {name}?", f"You should cook {food} for {name}.", food),
        ),
    )


def _shop(_name: str, rng: Random) -> Fact:
    thing = rng.choice([word for word in words.items("things") if len(word) < 9])
    price = rng.randint(2, 50)
    text = f"The {thing} costs {price} coins."
    return Fact(
        text,
        (
            ("price", f"How much does the {thing} cost?", text, str(price)),
            ("price_of", f"What is the price of the {thing}?", text, str(price)),
            ("what_costs", f"What costs {price} coins?", f"The {thing} costs {price} coins.", thing),
        ),
    )


def _key(_name: str, rng: Random) -> Fact:
    colour, place = rng.choice(words.groups()["colour"]), rng.choice(words.items("places"))
    text = f"The {colour} key opens {place}."
    return Fact(
        text,
        (
            ("key", f"Which key opens {place}?", text, colour),
            ("opens", f"What does the {colour} key open?", text, ""),
        ),
    )


_MAKERS = (_place, _thing, _job, _age, _pet, _time, _city, _food, _shop, _key)


def facts(count: int, rng: Random) -> list[Fact]:
    """Draw facts about different people, no two of one kind about one question."""
    people = rng.sample(words.names(), min(count, 60))
    made: list[Fact] = []
    seen: set[str] = set()
    for index in range(count):
        fact = rng.choice(_MAKERS)(people[index % len(people)][0], rng)
        questions = {ask[1] for ask in fact.asks}
        if not questions & seen:
            seen |= questions
            made.append(fact)
    return made


def _ask(made: list[Fact], rng: Random) -> tuple[str, str, str, str]:
    asks = list(rng.choice(made).asks)
    unique = [ask for ask in asks if sum(ask[1] == other[1] for fact in made for other in fact.asks) == 1]
    kind, question, answer, short = rng.choice(unique)
    if kind == "colour_of" and sum(question.split(" the ")[1].split()[0] in fact.text for fact in made) > 1:
        kind, question, answer, short = asks[0]
    return kind, question, answer, short


def in_request(rng: Random, count: int = 0) -> Exchange:
    """Ask about a text that stands in the request itself; count is the number of facts, 0 for one to five."""
    made = facts(count or rng.randint(1, 5), rng)
    kind, question, answer, short = _ask(made, rng)
    slots = {"text": " ".join(fact.text for fact in made), "question": question}
    frames = _BEFORE + _AFTER
    number = rng.choices(range(len(frames)), weights=[3] * len(_BEFORE) + [1] * len(_AFTER))[0]
    return Exchange(f"reading/{kind}/{number}", expand(frames[number], slots, rng), answer, (answer,), short=short)


def in_system(rng: Random, count: int = 0) -> Exchange:
    """Ask about a text that stands in the system message."""
    made = facts(count or rng.randint(1, 5), rng)
    kind, question, answer, short = _ask(made, rng)
    number = rng.randrange(len(_SYSTEM))
    system = expand(_SYSTEM[number], {"text": " ".join(fact.text for fact in made)}, rng)
    return Exchange(f"system/facts_{kind}/{number}", question, answer, (answer,), system=system, short=short)


def several(rng: Random, facts_count: int, asks_count: int) -> list[Exchange]:
    """Ask several questions about one system message."""
    made = facts(facts_count, rng)
    system = " ".join(fact.text for fact in made)
    asked = {}
    for _ in range(asks_count):
        kind, question, answer, short = _ask(made, rng)
        asked[question] = Exchange(f"system/facts_{kind}/0", question, answer, (answer,), system=system, short=short)
    return list(asked.values())
