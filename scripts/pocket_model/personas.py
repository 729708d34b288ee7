"""System messages that the answer obeys: who speaks, how answers begin and end, one-word answers, what a shop sells."""

from dataclasses import replace
from random import Random

from scripts.pocket_model import facts, lists, sums, talk, words
from scripts.pocket_model.exchange import Exchange, pick
from scripts.pocket_model.expand import a, capital, expand

_PHRASES = (
    "Ahoy!",
    "Cheers!",
    "So be it.",
    "My friend!",
    "Hooray!",
    "That is all.",
    "Peace!",
    "Yours truly.",
    "Over and out.",
    "What a day!",
    "Good luck!",
    "By my beard!",
    "As you wish.",
    "Listen well.",
    "Dear guest!",
    "Indeed.",
    "Hear, hear!",
    "Oh my!",
    "Take care!",
    "Stay curious!",
    "Meow!",
    "Beep!",
    "Woof!",
    "Arr!",
    "Thank you.",
    "Well, well.",
    "Quack!",
)
_ENDS = (
    'End every answer with "[mark]"',
    "Finish each answer with: [mark]",
    "Always say [mark] at the end.",
    "You are a helpful assistant. End your answers with [mark]",
)
_STARTS = (
    'Begin every answer with "[mark]"',
    "Start each answer with: [mark]",
    "Always say [mark] first.",
    "You are a helpful assistant. Begin your answers with [mark]",
)
_SHORT = (
    "Answer with one word.",
    "Answer in one word.",
    "Be very brief.",
    "Give only the answer.",
    "Use one word or number only.",
    "You are a helpful assistant. Answer as briefly as you can.",
)
_CALL = (
    "Greet the user by name. The user is called [name].",
    "You talk to [name]. Greet by name first.",
    "Always greet the user, [name].",
    "You are a helpful assistant. The user is called [name]. Greet the user by name.",
)
_WHO = (
    "Who are you?",
    "What is your name?",
    "Introduce yourself.",
    "Tell me about yourself.",
    "What should I call you?",
    "Hello, who are you?",
    "And you are?",
)
_PERSONA = (
    "You are [name], [a_job] in [city].",
    "You are [a_job] called [name]. You live in [city].",
    "Play the part of [name], [a_job] from [city].",
    "Your name is [name]. You work as [a_job] in [city].",
)
_SHOP = (
    "You sell [one] and [two].",
    "In your shop there are [one] and [two].",
    "You work in a shop with [one] and [two].",
)


def _plain(rng: Random) -> Exchange:
    """Draw an exchange with an exact answer, to be changed by a system message."""
    tasks = rng.choice((facts.TASKS, sums.TASKS, lists.TASKS, None))
    return talk.make(rng) if tasks is None else pick(tasks, rng)


def _styled(rng: Random) -> Exchange:
    plain, mark = _plain(rng), rng.choice(_PHRASES)
    at_end = rng.random() < 0.5
    frames = _ENDS if at_end else _STARTS
    number = rng.randrange(len(frames))
    marked = [f"{text} {mark}" if at_end else f"{mark} {text}" for text in (plain.answer, *plain.accepted)]
    form = f"system/{'end' if at_end else 'start'}/{number}"
    return replace(
        plain,
        form=form,
        system=expand(frames[number], {"mark": mark}, rng),
        answer=marked[0],
        accepted=tuple(marked[1:]),
    )


def _short(rng: Random) -> Exchange:
    plain = pick(facts.TASKS + sums.TASKS + lists.TASKS, rng)
    while not plain.short:
        plain = pick(facts.TASKS + sums.TASKS + lists.TASKS, rng)
    number = rng.randrange(len(_SHORT))
    word = capital(plain.short)
    return replace(plain, form=f"system/short/{number}", system=_SHORT[number], answer=word, accepted=(word,))


def _called(rng: Random) -> Exchange:
    name = rng.choice(words.names())[0]
    plain = _plain(rng)
    number = rng.randrange(len(_CALL))
    greeted = [f"Hello {name}! {text}" for text in (plain.answer, *plain.accepted)]
    form = f"system/called/{number}"
    return replace(
        plain,
        form=form,
        system=expand(_CALL[number], {"name": name}, rng),
        answer=greeted[0],
        accepted=tuple(greeted[1:]),
    )


def _asks(persona: dict[str, str]) -> list[tuple[str, str, str]]:
    """List what one can ask a person: kind, question, answer."""
    asks = [
        (f"who_{index}", ask, expand("I am [name], [a_job] in [city].", persona, Random(0)))
        for index, ask in enumerate(_WHO)
    ]
    asks += [
        (f"where_{i}", ask, f"I live in {persona['city']}.")
        for i, ask in enumerate(("Where do you live?", "Where are you from?", "In which city do you live?"))
    ]
    work = f"I am {persona['a_job']}. {capital(persona['a_job'])} {persona['what']}."
    asks += [
        (f"work_{i}", ask, work)
        for i, ask in enumerate(
            ("What do you do?", "What is your job?", "What is your work?", "What do you do for a living?")
        )
    ]
    return asks


def _shop_asks(shop: dict[str, str]) -> list[tuple[str, str, str]]:
    one, two, hour, price = shop["one"], shop["two"], shop["hour"], shop["price"]
    open_at, cost = f"We open at {hour} o'clock.", f"The {one} costs {price} coins."
    return [
        ("sell_0", "What do you sell?", f"We sell {one} and {two}."),
        ("sell_1", "What can I buy here?", f"We sell {one} and {two}."),
        ("sell_2", f"Do you have {one}?", f"Yes, we have {one}."),
        ("sell_3", f"Do you sell {two}?", f"Yes, we have {two}."),
        ("sell_4", f"Do you have {shop['other']}?", f"No, I am sorry. We only have {one} and {two}."),
        ("open_0", "When do you open?", open_at),
        ("open_1", "At what time does the shop open?", open_at),
        ("price_0", f"How much is the {one}?", cost),
        ("price_1", f"What does the {one} cost?", cost),
        ("buy_0", f"I would like some {two}, please.", f"Gladly! Here is your {two}."),
    ]


def persona(rng: Random) -> tuple[str, list[tuple[str, str, str]]]:
    """Draw a person with a job, half of the time with a shop; answers the system message and all questions."""
    job, what, _, _ = rng.choice(words.rows("jobs"))
    one, two, other = rng.sample(
        (
            "bread",
            "soup",
            "tea",
            "cheese",
            "honey",
            "fish",
            "paper",
            "wool",
            "rice",
            "jam",
            "butter",
            "salt",
            "oil",
            "milk",
            "cake",
            "coffee",
            "flour",
            "sugar",
            "juice",
            "cotton",
        ),
        3,
    )
    slots = {
        "name": rng.choice(words.names())[0],
        "a_job": a(job),
        "what": what,
        "city": rng.choice(words.rows("capitals"))[1],
        "one": one,
        "two": two,
        "other": other,
        "hour": words.number(rng.randint(5, 11)),
        "price": str(rng.randint(2, 40)),
    }
    system, asks = expand(rng.choice(_PERSONA), slots, rng), _asks(slots)
    if rng.random() < 0.5:
        system += expand(
            f" {rng.choice(_SHOP)} The shop opens at [hour] o'clock. The [one] costs [price] coins.", slots, rng
        )
        asks += _shop_asks(slots)
    return system, asks


def _speaks(rng: Random) -> Exchange:
    system, asks = persona(rng)
    kind, question, answer = rng.choice(asks)
    return Exchange(f"system/persona/{kind}", question, answer, (answer,), system=system)


def make(rng: Random) -> Exchange:
    """Make an exchange whose answer depends on its system message."""
    return rng.choices((_speaks, _short, _styled, _called), weights=(4, 2, 2, 1))[0](rng)
