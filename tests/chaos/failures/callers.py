"""Callers of a server that is failing, and the ledger beside what they were told."""

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import httpx
from sqlalchemy import text

from trainyard.core.db import Database

ASK_TIMEOUT_S = 45.0
"""Longer than the lease of an `Idempotency-Key`."""
_numbers = itertools.count()


@dataclass
class Told:
    """What one caller learned.

    Attributes:
        status: 0 when the line broke before the answer.
        usage: Prompt and completion tokens, when they were told.
        pieces: Events of a stream with text.
        is_whole: Whether the answer came to its end.
    """

    request_id: str
    status: int = 0
    code: str = ""
    usage: tuple[int, int] | None = None
    pieces: int = 0
    is_whole: bool = False
    took_s: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)


class Caller:
    """Asks `/v1/completions` under a key, every time something that no cache knows.

    Attributes:
        begun: Streams whose first text has come.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str, key: str) -> None:
        self._session = session
        self._url = url
        self._key = key
        self.begun = 0

    def moved_to(self, url: str) -> None:
        """Ask there from now on: a server that was started again has another port."""
        self._url = url

    async def ask(
        self,
        prompt: str = "one two three",
        *,
        model: str = "echo",
        stream: bool = False,
        idempotency_key: str | None = None,
        leave_after_s: float | None = None,
        **body: Any,
    ) -> Told:
        """Ask once; `leave_after_s` closes the line at that moment."""
        told = Told(f"req-{next(_numbers)}-{time.monotonic_ns()}")
        headers = {"X-API-Key": self._key, "X-Request-Id": told.request_id, "Cache-Control": "no-store"}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        body = {"model": model, "prompt": prompt, "max_tokens": 64, **body}
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        began_s = time.monotonic()
        try:
            async with asyncio.timeout(leave_after_s or ASK_TIMEOUT_S):
                await self._ask(told, headers, body)
        except (aiohttp.ClientError, TimeoutError):
            if leave_after_s is None and time.monotonic() - began_s >= ASK_TIMEOUT_S:
                raise AssertionError(f"no answer within {ASK_TIMEOUT_S} s: {told}") from None
        told.took_s = time.monotonic() - began_s
        return told

    async def _ask(self, told: Told, headers: dict[str, str], body: dict[str, Any]) -> None:
        async with self._session.post(f"{self._url}/v1/completions", json=body, headers=headers) as answer:
            told.status, told.headers = answer.status, {k.lower(): v for k, v in answer.headers.items()}
            if answer.status == httpx.codes.OK and body.get("stream"):
                async for line in answer.content:
                    self._read(told, line)
                return
            whole = await answer.json()
            told.code = (whole.get("error") or {}).get("code", "")
            if answer.status == httpx.codes.OK:
                told.usage, told.is_whole = _usage(whole), True

    def _read(self, told: Told, line: bytes) -> None:
        data = line.removeprefix(b"data: ").strip()
        if data == b"[DONE]":
            told.is_whole = not told.code
        elif line.startswith(b"data: "):
            event = json.loads(data)
            if "error" in event:
                told.code = event["error"]["code"]
            elif event.get("usage"):
                told.usage = _usage(event)
            elif event["choices"] and event["choices"][0]["text"]:
                self.begun += told.pieces == 0
                told.pieces += 1


def _usage(body: dict[str, Any]) -> tuple[int, int]:
    return body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]


@asynccontextmanager
async def caller(url: str, key: str) -> AsyncIterator[Caller]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True)) as session:
        yield Caller(session, url, key)


@asynccontextmanager
async def crowd(who: Caller, size: int, **ask: Any) -> AsyncIterator[list[Told]]:
    """Have callers ask over and over, alternately for a whole and a stream; the list holds what they learned."""
    told: list[Told] = []
    is_over = False

    async def one(number: int) -> None:
        while not is_over:
            told.append(await who.ask(f"word {number} {len(told)}", stream=number % 2 == 1, **ask))
            await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(one(number)) for number in range(size)]
    try:
        yield told
    finally:
        is_over = True
        await asyncio.gather(*tasks)


@dataclass(frozen=True)
class Entry:
    """A line of the ledger."""

    request_id: str
    outcome: str
    usage: tuple[int, int]
    charged: int


def ledger(database_url: str) -> list[Entry]:
    """Read all of it."""
    sql = "SELECT request_id, outcome, prompt_tokens, completion_tokens, charged_tokens FROM core_usage"
    with closing(Database(database_url)) as database, database.read() as connection:
        return [Entry(row[0], row[1], (row[2], row[3]), row[4]) for row in connection.execute(text(sql))]


def assert_exact(told: Sequence[Told], entries: Sequence[Entry]) -> None:
    """Whatever usage was told is in the ledger once and with these numbers; who was refused is not in it."""
    times = Counter(entry.request_id for entry in entries)
    assert [name for name, count in times.items() if count > 1] == []
    found = {entry.request_id: entry for entry in entries}
    for one in told:
        if one.usage is not None:
            assert found[one.request_id].usage == one.usage, one
            assert found[one.request_id].charged == sum(one.usage)
        elif one.status >= 400 or (one.code and not one.pieces):
            assert one.request_id not in found, one
    assert set(found) <= {one.request_id for one in told}


def sample(url: str, name: str) -> float:
    """Read one metric, summed over its labels; 0 when it was never counted."""
    lines = httpx.get(f"{url}/metrics", timeout=10).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def readyz(url: str) -> tuple[int, set[str]]:
    """Tell the status and what is not well."""
    answer = httpx.get(f"{url}/readyz", timeout=10)
    return answer.status_code, {name for name, check in answer.json()["checks"].items() if not check["ok"]}
