"""Requests that the model cannot know or do; the answer says so instead of inventing something."""

from random import Random

from scripts.pocket_model import words
from scripts.pocket_model.exchange import Exchange, pick, read_tasks
from scripts.pocket_model.writing import scene


def _out_of_reach(rng: Random) -> dict[str, str]:
    return scene(rng) | {
        "city": rng.choice(words.rows("capitals"))[1],
        "year": str(rng.randint(1100, 2020)),
        "job": rng.choice(words.rows("jobs"))[0],
    }


TASKS = read_tasks("unknown", {"out_of_reach": _out_of_reach})


def make(rng: Random) -> Exchange:
    """Make one exchange about something out of reach."""
    return pick(TASKS, rng)
