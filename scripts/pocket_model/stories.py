"""Stories and other plain texts: told on request or standing alone."""

from functools import cache
from random import Random

from scripts.pocket_model import facts, words
from scripts.pocket_model.exchange import Document, Exchange
from scripts.pocket_model.expand import expand
from scripts.pocket_model.writing import scene

_ASKS = (
    "Tell me a story.",
    "Tell me a short story.",
    "Can you tell me a story?",
    "Write a story.",
    "I want to hear a story.",
    "A story, please!",
    "Please tell me a bedtime story.",
    "Make up a story.",
)
_ABOUT = (
    "Tell me a story about [topic].",
    "Write a story about [topic].",
    "Can you tell me a story about [topic]?",
    "Write a short story about [topic].",
    "A story about [topic], please.",
    "Do you know a story about [topic]?",
    "Make up a story about [topic].",
)
_ESSAY = ("sound", "home", "food", "young", "cover", "legs", "colour", "capital", "job", "workplace", "job_tool")


@cache
def frames() -> tuple[tuple[str, str], ...]:
    """Read the (title, template) of every story."""
    return tuple(
        (title.strip(), text.strip()) for title, text in (line.split(" | ", 1) for line in words.lines("stories"))
    )


def told(number: int, rng: Random) -> tuple[str, dict[str, str]]:
    """Tell one story; answers the text and who and what is in it."""
    slots = scene(rng)
    return expand(frames()[number][1], slots, rng), slots


def make(rng: Random) -> Exchange:
    """Ask for a story, about nothing in particular or about somebody or something that is in it."""
    number = rng.randrange(len(frames()))
    text, slots = told(number, rng)
    topics = [frames()[number][0]] + [slots[k] for k in ("name", "shename") if slots[k] in text]
    topics += [f"a {slots[k]}" for k in ("animal", "thing") if slots[k] in text and slots[k][0] not in "aeiou"]
    if slots["name"] in text and slots["thing"] in text:
        topics.append(f"{slots['name']} and a {slots['thing']}")
    if slots["name"] in text and slots["animal"] in text:
        topics.append(f"a {slots['animal']} and {slots['name']}")
    if rng.random() < 0.25:
        wording = rng.randrange(len(_ASKS))
        return Exchange(f"stories/any_{number}/{wording}", _ASKS[wording], text)
    wording = rng.randrange(len(_ABOUT))
    topic = rng.choice(topics)
    topic = f"the {topic[4:]}" if topic.startswith("the ") else topic
    return Exchange(f"stories/about_{number}/{wording}", expand(_ABOUT[wording], {"topic": topic}, rng), text)


def _essay(rng: Random) -> str:
    """Write a few facts as running text."""
    tasks = [facts.BY_NAME[f"facts/{name}"] for name in rng.sample(_ESSAY, 4)]
    return " ".join(task.make(rng).answer for task in tasks)


def _meanings(rng: Random) -> str:
    task = facts.BY_NAME["facts/meaning"]
    return " ".join(task.make(rng).answer for _ in range(rng.randint(2, 4)))


def plain(rng: Random) -> Document:
    """Write a text that is no dialogue: mostly a story, sometimes a row of facts or meanings."""
    draw = rng.random()
    if draw < 0.2:
        return Document(("text/essay/0",), text=_essay(rng))
    if draw < 0.35:
        return Document(("text/meanings/0",), text=_meanings(rng))
    number = rng.randrange(len(frames()))
    title, _ = frames()[number]
    text, slots = told(number, rng)
    draw = rng.random()
    if draw < 0.3:
        text = f"{title.capitalize()}\n\n{text}"
    elif draw < 0.5 and slots["name"] in text:
        text = expand(
            f"Once upon a time there was {{a kind|a clever|a young|a small}} {slots['child']} named [name]. {text}",
            slots,
            rng,
        )
    return Document((f"text/story_{number}/0",), text=text)
