"""What the generators produce: exchanges, dialogues and texts, and the rule that holds some of them out."""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from scripts.pocket_model import words
from scripts.pocket_model.expand import expand

# One exchange in 30 is never trained on, one sum in 8: a sum has few keys.
HELD_OUT_OF = 30
SUMS_HELD_OUT_OF = 8
_NOT_WORD = re.compile(r"[^a-z0-9+\-]+")


@dataclass(frozen=True)
class Exchange:
    """One request and its answer.

    Attributes:
        form: `family/task/number`; one form is one way to word one kind of request.
        accepted: answers that count as right; empty where any sensible answer is right.
        key: what is held out; by default the request with its system message.
        short: the answer in one word or number where there is one.
    """

    form: str
    user: str
    answer: str
    accepted: tuple[str, ...] = ()
    system: str = ""
    key: str = ""
    short: str = ""

    @property
    def family(self) -> str:
        """The part of the form before the first stroke."""
        return self.form.split("/")[0]

    @property
    def is_held_out(self) -> bool:
        """Whether the corpus leaves this exchange out, decided by the hash of its key alone."""
        key = self.key or normal(f"{self.system} {self.user}")
        divisor = SUMS_HELD_OUT_OF if self.key else HELD_OUT_OF
        return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % divisor == 0


@dataclass(frozen=True)
class Document:
    """One training text: a dialogue as (role, content) turns, or plain text when there are no turns."""

    forms: tuple[str, ...]
    turns: tuple[tuple[str, str], ...] = ()
    text: str = ""


def normal(text: str) -> str:
    """Lower-case a text and drop its punctuation, so that small changes of wording keep its key."""
    return _NOT_WORD.sub(" ", text.lower()).strip()


Slots = Mapping[str, str]


@dataclass(frozen=True)
class Task:
    """One kind of request: several wordings, one answer, and a draw of the slots they share.

    Attributes:
        is_exact: whether the answer of the template is the only right one.
        short: template of the one-word answer, empty where there is none.
        key: template of the held-out key; empty for the wording itself.
    """

    name: str
    asks: tuple[str, ...]
    answer: str
    draw: Callable[[Random], Slots]
    is_exact: bool = True
    short: str = ""
    key: str = ""
    weight: float = 1.0

    def make(self, rng: Random) -> Exchange:
        """Draw the slots and a wording."""
        number, slots = rng.randrange(len(self.asks)), self.draw(rng)
        answer = expand(self.answer, slots, rng)
        return Exchange(
            form=f"{self.name}/{number}",
            user=expand(self.asks[number], slots, rng),
            answer=answer,
            accepted=(answer,) if self.is_exact else (),
            key=expand(self.key, slots, rng),
            short=expand(self.short, slots, rng),
        )


def read_tasks(name: str, draws: Mapping[str, Callable[[Random], Slots]]) -> tuple[Task, ...]:
    """Read the tasks of `data/tasks_NAME.txt`, whose sources of slots are named in draws.

    Raises:
        KeyError: a task names a source that is not in draws.
    """
    tasks: list[Task] = []
    for line in words.lines(f"tasks_{name}"):
        mark, _, rest = line.strip().partition(" ")
        if not line.startswith(" "):
            tasks.append(Task(mark, (), "", draws[rest]))
        elif mark == "?":
            tasks[-1] = replace(tasks[-1], asks=(*tasks[-1].asks, rest))
        else:
            tasks[-1] = replace(tasks[-1], **_option(mark, rest))
    return tuple(tasks)


def _option(mark: str, rest: str) -> dict[str, Any]:
    if mark == "open":
        return {"is_exact": False}
    if mark == "weight":
        return {"weight": float(rest)}
    return {{"=": "answer", "short": "short", "key": "key"}[mark]: rest}


def pick(tasks: tuple[Task, ...], rng: Random) -> Exchange:
    """Make an exchange of one of the tasks, drawn by weight."""
    return rng.choices(tasks, weights=[task.weight for task in tasks])[0].make(rng)
