"""Dialogues of several turns: chains of exchanges, what was said before, several questions to one system message."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

from scripts.pocket_model import facts, lists, personas, reading, stories, sums, talk, unknown, words, writing
from scripts.pocket_model.exchange import Document, Exchange, pick, read_tasks
from scripts.pocket_model.expand import capital

GENERAL = (
    "You are a helpful assistant.",
    "You are a friendly assistant.",
    "You are a helpful, polite assistant. Answer briefly.",
    "You are the pocket model of trainyard.",
    "Be kind and helpful.",
    "Answer the question.",
    "You are a chatbot.",
    "You are an assistant. Answer in simple English.",
    "Help the user.",
    "You are a helpful AI assistant.",
)
_OPENERS = (
    "Hi! ",
    "Hello. ",
    "Hey, ",
    "Please, ",
    "I have a question. ",
    "Tell me: ",
    "Quick question: ",
    "Next question. ",
)
_ORDERS = (
    "Tell",
    "Give",
    "Name",
    "Write",
    "Explain",
    "Describe",
    "Define",
    "Add",
    "Take",
    "Calculate",
    "Count",
    "Find",
)


def _user(rng: Random) -> dict[str, str]:
    slots = writing.scene(rng)
    city, job = rng.choice(words.rows("capitals"))[1], rng.choice(words.rows("jobs"))[0]
    return slots | {"city": city, "job": job, "age": str(rng.randint(5, 80)), "pet": slots["name2"]}


# Statements about the user, each followed by the task that asks for it later.
MEMORY = read_tasks("memory", {"user": _user})


def _remembered(rng: Random) -> tuple[Exchange, Exchange]:
    number = 2 * rng.randrange(len(MEMORY) // 2)
    slots = MEMORY[number].draw(rng)
    pair = [replace(task, draw=lambda _: slots).make(rng) for task in MEMORY[number : number + 2]]
    return pair[0], pair[1]


def single(rng: Random) -> Exchange:
    """Make one exchange of any family that needs no earlier turn."""
    makers: tuple[Callable[[Random], Exchange], ...] = (
        lambda r: pick(facts.TASKS, r), lambda r: pick(lists.TASKS, r), lambda r: pick(sums.TASKS, r),
        talk.make, writing.make, reading.in_request, reading.in_system, personas.make, stories.make, unknown.make,
    )  # fmt: skip
    return rng.choices(makers, weights=(20, 13, 19, 14, 8, 10, 7, 9, 5, 2))[0](rng)


def _free(rng: Random) -> Exchange:
    """Make an exchange that has no system message of its own and is not long."""
    while True:
        made = single(rng)
        if not made.system and made.family != "stories" and not made.is_held_out:
            return made


def roughen(text: str, rng: Random) -> str:
    """Write a request as people do: lower case, without the last mark, with an opener or a please."""
    draw = rng.random()
    if draw < 0.1:
        return text.lower()
    if draw < 0.2:
        return text.rstrip("?.!")
    if draw < 0.25:
        return text.lower().rstrip("?.!")
    if draw < 0.31 and "\n" not in text:
        return rng.choice(_OPENERS) + text
    if draw < 0.38 and text.startswith(_ORDERS) and text.endswith("."):
        return text[:-1] + ", please."
    if draw < 0.46:
        return text.replace("What is", "What's").replace("I am", "I'm").replace("do not", "don't")
    return capital(text)


def _turns(system: str, exchanges: list[Exchange], rng: Random) -> Document:
    turns = [("system", system)] if system else []
    for made in exchanges:
        turns += [
            ("user", made.user if made.family == "lists" else roughen(made.user, rng)),
            ("assistant", made.answer),
        ]
    return Document(tuple(made.form for made in exchanges), tuple(turns))


def one(rng: Random) -> Document:
    """Make a dialogue of one exchange, in a third of the cases under a general system message."""
    made = single(rng)
    while made.is_held_out:
        made = single(rng)
    system = made.system or (rng.choice(GENERAL) if rng.random() < 0.33 else "")
    return _turns(system, [made], rng)


def chain(rng: Random, length: int) -> Document:
    """Make a dialogue of unrelated turns, half of the time with something to remember from an earlier one."""
    system = rng.choice(GENERAL) if rng.random() < 0.3 else ""
    exchanges = [_free(rng) for _ in range(length)]
    if rng.random() < 0.6:
        said, asked = _remembered(rng)
        first = rng.randint(0, length)
        exchanges.insert(first, said)
        exchanges.insert(rng.randint(first + 1, length + 1), asked)
    return _turns(system, exchanges, rng)


def with_person(rng: Random) -> Document:
    """Ask one persona several questions."""
    system, asks = personas.persona(rng)
    chosen = rng.sample(asks, rng.randint(2, 4))
    exchanges = [
        Exchange(f"system/persona/{kind}", question, answer, (answer,), system=system)
        for kind, question, answer in chosen
    ]
    return _turns(system, [made for made in exchanges if not made.is_held_out], rng)


def about_text(rng: Random, facts_count: int) -> Document:
    """Ask several questions about one system message; with many facts this is a long text."""
    exchanges = reading.several(rng, facts_count, rng.randint(2, 5))
    kept = [made for made in exchanges if not made.is_held_out]
    return _turns(exchanges[0].system, kept, rng)
