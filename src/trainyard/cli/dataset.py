"""Training data of the command line: reading lines, holding some out by hash, and the order of batches."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from trainyard.core import errors
from trainyard.training import types

SHOWN = 10
"""Bad lines that an error names before it only counts."""


@dataclass(frozen=True, slots=True)
class Line:
    """One usable line.

    Attributes:
        number: In the file, from 1.
        example: As the server takes it: `{"text": …}` or `{"messages": […]}`.
        digest: SHA-256 of the example, keys sorted: the same example has the same digest in any file.
    """

    number: int
    example: dict[str, Any]
    digest: bytes


def read(path: Path) -> list[Line]:
    """Read a JSON Lines file; empty lines are skipped.

    Raises:
        errors.InvalidRequest: Some lines are unusable; the message names them with their numbers and reasons.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise errors.InvalidRequest(f"{path} cannot be read as UTF-8 text: {error}", param="data") from error
    return parse(text.split("\n"), str(path))


def parse(raw_lines: Iterable[str], name: str) -> list[Line]:
    """Read the lines of a file called `name`; see `read`."""
    lines: list[Line] = []
    bad: list[str] = []
    for number, raw in enumerate(raw_lines, start=1):
        if not raw.strip():
            continue
        try:
            lines.append(_line(number, raw))
        except ValueError as error:
            bad.append(f"line {number}: {_reason(error)}")
    if bad:
        raise errors.InvalidRequest(f"{name} has {listed(bad, 'unusable ')}", param="data")
    if not lines:
        raise errors.InvalidRequest(f"{name} holds no examples", param="data")
    return lines


def listed(faults: Sequence[str], kind: str = "") -> str:
    """Count the lines that have a fault, and name the first ones: `2 unusable lines: line 3: …; line 7: …`."""
    more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    return f"{len(faults)} {kind}line{'s' * (len(faults) > 1)}: {'; '.join(faults[:SHOWN])}{more}"


def hold_out(lines: Sequence[Line], share: float) -> tuple[list[Line], list[Line]]:
    """Split into (training, held out): the examples with the smallest digests are held out.

    An example that occurs twice is on one side with both, so that nothing held out is ever trained on.

    Args:
        lines: At least two different examples when anything is to be held out.
        share: Below 1 the part of the different examples, from 1 on their number; 0 = none.

    Raises:
        errors.InvalidRequest: Nothing would be left to train on.
    """
    digests = sorted({line.digest for line in lines})
    count = round(len(digests) * share) if share < 1 else int(share)
    if share > 0:
        count = max(count, 1)
    if count >= len(digests):
        raise errors.InvalidRequest(
            f"holding out {count} of {len(digests)} different examples leaves none to train on", param="validation"
        )
    held = set(digests[:count])
    return [line for line in lines if line.digest not in held], [line for line in lines if line.digest in held]


class Batches:
    """The batch of every step, the same for the same lines, size and seed, wherever it starts.

    The order of an epoch is that of SHA-256(seed, epoch, digest of the example), so that it depends on nothing but
    these: a resumed run sees the batches that the uninterrupted one would have seen.
    """

    def __init__(self, lines: Sequence[Line], batch_size: int, seed: int) -> None:
        """Keep the lines.

        Args:
            lines: All training lines, in any order.
            batch_size: Lines in a batch; the last one of an epoch may be smaller.
            seed: Any whole number.
        """
        self._lines = lines
        self._batch_size = batch_size
        self._seed = seed
        self._ordered: tuple[int, list[Line]] = (-1, [])

    @property
    def per_epoch(self) -> int:
        """Batches of one pass over the lines."""
        return -(-len(self._lines) // self._batch_size)

    def at(self, step: int) -> list[dict[str, Any]]:
        """Pick the examples of one step, counted from 0."""
        epoch, place = divmod(step, self.per_epoch)
        if self._ordered[0] != epoch:
            self._ordered = epoch, self._order(epoch)
        first = place * self._batch_size
        return [line.example for line in self._ordered[1][first : first + self._batch_size]]

    def _order(self, epoch: int) -> list[Line]:
        salt = f"{self._seed}:{epoch}:".encode()
        return sorted(self._lines, key=lambda line: (hashlib.sha256(salt + line.digest).digest(), line.number))


def _line(number: int, raw: str) -> Line:
    example = json.loads(raw)
    if not isinstance(example, dict):
        raise ValueError('an example is an object: {"messages": […]} or {"text": …}')
    checked = types.TrainingExample.model_validate(example)
    if checked.messages is not None and not any(message.role == "assistant" for message in checked.messages):
        raise ValueError("messages has no assistant turn, so there is nothing to learn")
    canonical = json.dumps(example, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return Line(number, example, hashlib.sha256(canonical.encode()).digest())


def _reason(error: ValueError) -> str:
    if isinstance(error, pydantic.ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        return f"{place}: {first['msg']}" if place else first["msg"]
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg} at column {error.colno}"
    return str(error)
