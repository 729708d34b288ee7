"""Repeats over real sockets, the real meter and the real ledger: no answer before its row, no row without answer."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
from uvicorn.server import ServerState

from tests.unit.core.metering.conftest import Yard as Books
from tests.unit.serving.yard import Yard
from trainyard.core.clock import FakeClock
from trainyard.core.db import Database
from trainyard.core.db.spool import Spool
from trainyard.core.db.writer import GroupWriter
from trainyard.core.http import heads
from trainyard.core.limits.types import Limits

BODY = b'{"prompt":"hi","temperature":0}'
REQUEST = b"POST /v1/generate HTTP/1.1\r\nHost: yard\r\nAuthorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b"


@dataclass
class Line:
    """One kept connection to a server, and its books."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    request: bytes
    books: Books

    async def ask(self) -> int:
        """Send the request once more; the status of its answer."""
        self.writer.write(self.request)
        return await self.answer()

    async def answer(self) -> int:
        async with asyncio.timeout(20):
            head = await self.reader.readuntil(b"\r\n\r\n")
            fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
            json.loads(await self.reader.readexactly(int(fields[b"content-length"])))
        return int(head[9:12])

    async def rows(self) -> int:
        return len(await self.books.entries())

    @property
    def charges(self) -> tuple[float, float]:
        """Hits that were paid for, and that were lost."""
        return tuple(self.books.metric("trainyard_charges_total", end=end) for end in ("cached", "lost"))  # type: ignore[return-value]


@pytest.fixture(params=["quick", "by the thread"])
def writer(request: pytest.FixtureRequest, database: Database) -> GroupWriter:
    return GroupWriter(str(database.engine.url), sync="normal" if request.param == "quick" else "full")


@pytest.fixture
async def line(yard: Yard, database: Database, clock: FakeClock, writer: GroupWriter) -> AsyncIterator[Line]:
    """A connection on which the first request was work and the second a hit, by the long way."""
    books = Books(database, clock, writer)
    await writer.start()
    config = uvicorn.Config(
        yard.app(meter=books.meter),
        http=heads.BoundedHeads,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
    )
    config.load()
    state, loop = ServerState(), asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: heads.BoundedHeads(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    key = await database.call(yard.keys.generate_key, "ann", scopes=["generate"])
    reader, writing = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
    made = Line(reader, writing, REQUEST % (key.encode(), len(BODY), BODY), books)
    assert [await made.ask(), await made.ask()] == [200, 200]
    assert (await made.rows(), made.charges) == (2, (1, 0))
    yield made
    writing.close()
    await writing.wait_closed()
    server.close()
    await server.wait_closed()
    await books.meter.aclose()
    await writer.aclose()


async def test_the_row_of_a_repeat_is_there_before_its_answer(line: Line) -> None:
    for number in range(3, 20):
        assert (await line.ask(), await line.rows()) == (200, number)
    assert line.charges == (18, 0)
    entries = await line.books.entries()
    assert len({entry.entry_id for entry in entries}) == len({entry.request_id for entry in entries}) == 19


async def test_pipelined_repeats_are_charged_once_each(line: Line) -> None:
    line.writer.write(line.request * 50)
    assert [await line.answer() for _ in range(50)] == [200] * 50
    assert (await line.rows(), line.charges) == (52, (51, 0))


async def test_the_bar_lets_exactly_as_many_repeats_through(line: Line) -> None:
    line.books.limits = Limits(requests=5)
    assert [await line.ask() for _ in range(9)] == [200] * 5 + [429] * 4
    assert await line.rows() == 7
    assert line.books.metric("trainyard_refused_requests_total", reason="rate_limit_exceeded:requests") == 4
    line.books.clock.advance(60)
    assert await line.ask() == 200


async def test_a_locked_database_holds_repeats_up_or_refuses_them(line: Line, database: Database) -> None:
    line.books.limits = Limits(requests=2)
    other = sqlite3.connect(str(database.engine.url.database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert [await line.ask(), await line.rows(), line.charges] == [503, 2, (1, 1)]
    other.execute("ROLLBACK")
    other.close()
    statuses = []
    while 200 not in statuses:  # the writer looks for the database twice a second
        statuses.append(await line.ask())
        await asyncio.sleep(0.05)
    assert set(statuses) == {503, 200}
    assert await line.ask() == 200  # what was lost takes nothing of the bar
    assert await line.rows() == 4


async def test_a_client_that_leaves_while_its_row_is_written_pays_once(line: Line) -> None:
    line.writer.write(line.request)
    await asyncio.sleep(0)  # it is with the kernel
    line.writer.transport.abort()
    await line.books.meter.aclose()
    await asyncio.sleep(0.05)
    assert (await line.rows() - 1, 0) == line.charges


async def test_a_repeat_goes_out_while_its_row_is_in_the_spool(
    yard: Yard, database: Database, clock: FakeClock, tmp_path: Path
) -> None:
    books = Books(database, clock, GroupWriter(str(database.engine.url), spool=Spool(tmp_path)))
    await books.writer.start()
    client = await yard.client(app=yard.app(meter=books.meter))
    headers = {"content-type": "application/json"}
    for _ in range(3):
        assert (await client.post("/v1/generate", content=BODY, headers=headers)).status_code == 200
    other = sqlite3.connect(str(database.engine.url.database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert (await client.post("/v1/generate", content=BODY, headers=headers)).status_code == 200
    assert (len(await books.entries()), books.ledger.spooled) == (3, 1)
    other.execute("ROLLBACK")
    other.close()
    async with asyncio.timeout(20):
        while books.ledger.spooled:  # noqa: ASYNC110 - the writer looks twice a second
            await asyncio.sleep(0.05)
    assert len(await books.entries()) == 4
    await books.meter.aclose()
    await books.writer.aclose()
