"""What a hot write is, and its SQL in the words of each driver."""

import functools
import itertools
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from msgspec import Struct

Marker = Literal["?", "%s"]
"""How a driver writes a parameter by position: sqlite3 and psycopg."""


class Write(Struct, frozen=True):
    """One statement that has to be durable before an answer is out.

    Attributes:
        sql: With named parameters (`:name`) that SQLite and Postgres both understand.
        parameters: Their values.
    """

    sql: str
    parameters: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL with parameters by position.

    Attributes:
        sql: For the driver.
        row: Takes the parameters by name and gives them in the order of the marks.
    """

    sql: str
    row: Callable[[Mapping[str, object]], tuple[object, ...]]


_PART = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|::|(?<![\w:]):(?P<name>[A-Za-z_]\w*)|%")
"""Literals, quoted names and casts, in which a colon names nothing; parameters; signs that psycopg reads."""


@functools.lru_cache(maxsize=512)
def translated(sql: str, marker: Marker) -> Statement:
    """Put named parameters into a driver's words, once per SQL and driver."""
    names: list[str] = []

    def part(found: re.Match[str]) -> str:
        if found["name"]:
            names.append(found["name"])
            return marker
        return found[0].replace("%", "%%") if marker == "%s" else found[0]

    return Statement(_PART.sub(part, sql), _picker(names))


_INSERT = re.compile(
    r"(?P<head>INSERT INTO [^()]+ \([^()]+\) VALUES )(?P<row>\((?:\?, )*\?\))(?P<tail>(?: ON CONFLICT [^?]+)?)"
)


@functools.lru_cache(maxsize=512)
def widened(sql: str, rows: int) -> str | None:
    """Make one statement that adds several rows, of a translated one that adds one row; None where it does not."""
    found = _INSERT.fullmatch(sql)
    if found is None:
        return None
    return f"{found['head']}{', '.join([found['row']] * rows)}{found['tail']}"


def runs(lists: Iterable[Sequence[Write]], marker: Marker) -> Iterator[tuple[str, list[tuple[object, ...]]]]:
    """Cut lists of writes, in their order, into runs of the same SQL, each with its rows.

    Raises:
        KeyError: A write lacks a parameter that its SQL names.
    """
    for sql, writes in itertools.groupby(itertools.chain.from_iterable(lists), operator.attrgetter("sql")):
        statement = translated(sql, marker)
        yield statement.sql, [statement.row(write.parameters) for write in writes]


def _picker(names: Sequence[str]) -> Callable[[Mapping[str, object]], tuple[Any, ...]]:
    if not names:
        return lambda _parameters: ()
    if len(names) == 1:
        only = names[0]
        return lambda parameters: (parameters[only],)
    return operator.itemgetter(*names)
