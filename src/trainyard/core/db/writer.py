"""Group commit for hot writes: statements of many requests, one transaction."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Write:
    """One statement that has to be durable before an answer is out.

    Attributes:
        sql: With named parameters (`:name`) that SQLite and Postgres both understand.
        parameters: Their values.
    """

    sql: str
    parameters: Mapping[str, object]
