"""Numbers: sums and differences to 100, comparing, counting, doubling, number words."""

from collections.abc import Callable
from random import Random

from scripts.pocket_model import words
from scripts.pocket_model.exchange import Slots, read_tasks


def _plus(low: int, high: int) -> Callable[[Random], Slots]:
    def draw(rng: Random) -> Slots:
        total = rng.randint(low, high)
        left = rng.randint(0 if high <= 20 else 1, total)
        return {"a": str(left), "b": str(total - left), "c": str(total)}

    return draw


def _minus(low: int, high: int) -> Callable[[Random], Slots]:
    def draw(rng: Random) -> Slots:
        left = rng.randint(low, high)
        right = rng.randint(0, left)
        return {"a": str(left), "b": str(right), "c": str(left - right)}

    return draw


def _story(rng: Random) -> Slots:
    slots = dict(_plus(2, 20)(rng))
    name, he, _, _ = rng.choice(words.names())
    things = rng.choice(("apples", "coins", "books", "marbles", "stamps", "shells", "eggs", "pencils", "cards", "nuts"))
    return slots | {"name": name, "he": he, "things": things}


def _times(rng: Random) -> Slots:
    left, right = rng.randint(0, 10), rng.randint(0, 10)
    return {"a": str(left), "b": str(right), "c": str(left * right)}


def _compare(rng: Random) -> Slots:
    left, right = rng.sample(range(101), 2)
    return {"a": str(left), "b": str(right), "max": str(max(left, right)), "min": str(min(left, right))}


def _largest(rng: Random) -> Slots:
    values = rng.sample(range(101), rng.randint(3, 5))
    shown = ", ".join(map(str, values))
    return {
        "list": shown,
        "max": str(max(values)),
        "min": str(min(values)),
        "up": ", ".join(map(str, sorted(values))),
        "down": ", ".join(map(str, sorted(values, reverse=True))),
    }


def _count(rng: Random) -> Slots:
    start = rng.randint(0, 40)
    end = start + rng.randint(2, 9)
    up = [str(value) for value in range(start, end + 1)]
    return {"a": str(start), "b": str(end), "up": ", ".join(up), "down": ", ".join(reversed(up))}


def _steps(rng: Random) -> Slots:
    step = rng.choice((2, 5, 10))
    start = rng.randrange(0, 30, step if step > 2 else 1)
    values = [str(start + step * index) for index in range(5)]
    return {"list": ", ".join(values[:4]), "next": values[4]}


def _one(rng: Random) -> Slots:
    value = rng.randint(0, 99)
    return {
        "a": str(value),
        "next": str(value + 1),
        "before": str(max(value - 1, 0)),
        "word": words.number(value),
        "parity": "even" if value % 2 == 0 else "odd",
    }


def _double(rng: Random) -> Slots:
    value = rng.randint(0, 50)
    return {"a": str(value), "double": str(2 * value)}


DRAWS: dict[str, Callable[[Random], Slots]] = {
    "plus_20": _plus(0, 20),
    "plus_100": _plus(21, 100),
    "minus_20": _minus(1, 20),
    "minus_100": _minus(21, 100),
    "story": _story,
    "times": _times,
    "compare": _compare,
    "largest": _largest,
    "count": _count,
    "steps": _steps,
    "one": _one,
    "double": _double,
}
# Sums to 20 get more text than sums to 100, so that the latter stay partly wrong and training can improve them.
TASKS = read_tasks("sums", DRAWS)
BY_NAME = {task.name: task for task in TASKS}
