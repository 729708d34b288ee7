"""Entries for tests: all facts have a value of their own unless a test names them."""

from typing import Any

from trainyard.core.ledger.store import rows
from trainyard.core.ledger.types import Entry

_PLAIN: dict[str, Any] = {
    "at": 1_700_000_000.0,
    "tenant": "lab",
    "user": "ada",
    "key_id": "key_a",
    "request_id": "req_1",
    "route": "/v1/generate",
    "model": "pocket",
    "outcome": "done",
    "cached": False,
    "prompt_tokens": 10,
    "cached_tokens": 4,
    "completion_tokens": 20,
    "charged_tokens": 30,
    "cost_micros": 7,
    "seconds": 0.5,
}


def entry(unique: str, **facts: object) -> Entry:
    known = {**_PLAIN, **facts}
    return Entry(entry_id=rows.entry_id(known["at"], unique), **known)
