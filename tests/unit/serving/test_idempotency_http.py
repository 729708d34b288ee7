"""Requests under an `Idempotency-Key`, over the real ledger: done and charged once, answered as often as they come."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from tests.unit.serving.test_http import leave_after
from tests.unit.serving.yard import ANSWER, Yard
from trainyard.core import errors
from trainyard.core.clock import FakeClock, SystemClock
from trainyard.core.db import Database
from trainyard.core.db.writer import Write
from trainyard.core.http import dialects
from trainyard.core.idempotency import Idempotency, Scope, Ticket
from trainyard.core.metering.accounts import Accounts
from trainyard.core.settings import DatabaseSettings, Settings
from trainyard.core.telemetry import Metrics
from trainyard.engine import calls
from trainyard.serving.routes import answering

KEY = {"idempotency-key": "order-1"}
CHAT: dict[str, Any] = {"model": "yard/bytes", "messages": [{"role": "user", "content": "hi"}]}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/generate": {"prompt": "hi"},
    "/v1/generate/batch": {"prompts": ["hi", "ho"]},
    "/v1/stream": {"prompt": "hi"},
    "/v1/completions": {"prompt": "hi", "stream": True},
    "/v1/chat/completions": CHAT,
}


class Ledger:
    """What was charged, read from the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def entries(self) -> list[tuple[str, str, int]]:
        with self._database.read() as connection:
            rows = connection.execute(text("SELECT route, outcome, charged_tokens FROM core_usage ORDER BY entry_id"))
            return [(row.route, row.outcome, row.charged_tokens) for row in rows]


@pytest.fixture
def ledger(database: Database) -> Ledger:
    return Ledger(database)


@pytest.fixture
async def accounts(yard: Yard, database: Database, clock: FakeClock, tmp_path: Path) -> AsyncIterator[Accounts]:
    where = DatabaseSettings(url=f"sqlite:///{tmp_path / 'trainyard.db'}")
    (tmp_path / "data").mkdir(exist_ok=True)
    effective = Settings(data_dir=tmp_path / "data", database=where)
    made = Accounts.open(effective, database, yard.keys.subjects, clock, Metrics())
    await made.start()
    yield made
    await made.aclose()


@pytest.fixture
async def client(yard: Yard, accounts: Accounts) -> httpx.AsyncClient:
    return await yard.client(app=yard.app(meter=accounts.metering))


def generated(yard: Yard) -> int:
    return sum(isinstance(call, calls.Generate) for call in yard.engine.seen)


@pytest.mark.parametrize("path", BODIES)
async def test_a_repeated_request_gets_the_same_bytes_and_is_charged_once(
    yard: Yard, client: httpx.AsyncClient, ledger: Ledger, path: str
) -> None:
    first = await client.post(path, json=BODIES[path], headers=KEY)
    done = generated(yard)
    second = await client.post(path, json=BODIES[path], headers=KEY)
    assert (second.status_code, second.content) == (200, first.content)
    assert second.headers["content-type"] == first.headers["content-type"]
    assert (first.headers.get("idempotent-replayed"), second.headers["idempotent-replayed"]) == (None, "true")
    assert generated(yard) == done
    assert [(route, outcome) for route, outcome, _ in ledger.entries()] == [(path, "done")]


@pytest.mark.parametrize("path", BODIES)
async def test_another_request_under_the_key_is_a_conflict(
    client: httpx.AsyncClient, ledger: Ledger, path: str
) -> None:
    await client.post(path, json=BODIES[path], headers=KEY)
    answer = await client.post(path, json={**BODIES[path], "temperature": 0.5}, headers=KEY)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "idempotency_key_reused")
    assert len(ledger.entries()) == 1


async def test_a_colleagues_key_is_not_ours(yard: Yard, client: httpx.AsyncClient) -> None:
    await client.post("/v1/generate", json=BODIES["/v1/generate"], headers=KEY)
    body = BODIES["/v1/generate"]
    for other in (await yard.client("bob"), await yard.client("zoe", tenant="elsewhere")):
        answer = await other.post("/v1/generate", json={**body, "temperature": 0.5}, headers=KEY)
        assert (answer.status_code, "idempotent-replayed" in answer.headers) == (200, False)


async def test_routes_do_not_share_keys(client: httpx.AsyncClient, ledger: Ledger) -> None:
    for path, body in BODIES.items():
        assert (await client.post(path, json=body, headers=KEY)).status_code == 200
    assert sorted(route for route, _, _ in ledger.entries()) == sorted(BODIES)


async def test_fifty_at_once_are_done_once(yard: Yard, accounts: Accounts, ledger: Ledger) -> None:
    yard.engine = yard.new_engine(ANSWER, token_s=0.005)
    client = await yard.client(app=yard.app(meter=accounts.metering))
    body = {"prompt": "hi"}  # drawn by chance, so the cache has no part in it
    answers = await asyncio.gather(*[client.post("/v1/generate", json=body, headers=KEY) for _ in range(50)])
    assert {answer.json()["output"] for answer in answers} == {ANSWER}
    assert sum("idempotent-replayed" in answer.headers for answer in answers) == 49
    assert (generated(yard), len(ledger.entries())) == (1, 1)


async def test_an_error_is_not_remembered_and_costs_nothing(
    yard: Yard, client: httpx.AsyncClient, ledger: Ledger
) -> None:
    await client.post("/v1/generate", json={"prompt": "warm up"})
    yard.engine.fail_next(errors.Unavailable("away", code="engine_restarting"))
    first = await client.post("/v1/generate", json=BODIES["/v1/generate"], headers=KEY)
    assert (first.status_code, len(ledger.entries())) == (503, 1)
    second = await client.post("/v1/generate", json=BODIES["/v1/generate"], headers=KEY)
    assert (second.status_code, "idempotent-replayed" in second.headers) == (200, False)
    assert len(ledger.entries()) == 2


async def test_a_refused_body_does_not_take_the_key(client: httpx.AsyncClient) -> None:
    refused = await client.post("/v1/generate", json={"prompt": "x" * 100}, headers=KEY)
    assert refused.status_code == 422
    assert (await client.post("/v1/generate", json={"prompt": "x"}, headers=KEY)).status_code == 200


@pytest.mark.parametrize("path", ["/v1/stream", "/v1/generate"])
async def test_who_left_may_come_again_and_pays_for_both(
    yard: Yard, accounts: Accounts, ledger: Ledger, path: str
) -> None:
    yard.engine = yard.new_engine("x" * 40, token_s=0.03)
    app = yard.app(clock=SystemClock(), meter=accounts.metering)
    client = await yard.client(app=app)
    body = {"prompt": "hi", "max_new_tokens": 30}
    await leave_after(app, path, body, client.headers["authorization"], 0.4, headers=KEY)
    answer = await client.post(path, json=body, headers=KEY)
    assert (answer.status_code, "idempotent-replayed" in answer.headers) == (200, False)
    assert [outcome for _, outcome, _ in ledger.entries()] == ["cancelled", "done"]


async def test_a_stream_that_broke_is_not_remembered(yard: Yard, client: httpx.AsyncClient, ledger: Ledger) -> None:
    yard.engine.die_after_tokens(3)
    broken = await client.post("/v1/stream", json={"prompt": "hi"}, headers=KEY)
    assert '"engine_restarting"' in broken.text
    whole = await client.post("/v1/stream", json={"prompt": "hi"}, headers=KEY)
    assert "[DONE]" in whole.text
    assert [(outcome, charged) for _, outcome, charged in ledger.entries()] == [("failed", 5), ("done", 17)]


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
async def test_a_key_that_is_none_is_refused(client: httpx.AsyncClient, key: str) -> None:
    answer = await client.post("/v1/generate", json={"prompt": "hi"}, headers={"idempotency-key": key})
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "Idempotency-Key")


async def test_a_hit_under_a_key_is_charged_as_a_hit_once(client: httpx.AsyncClient, ledger: Ledger) -> None:
    body = {"prompt": "hi", "temperature": 0}
    await client.post("/v1/generate", json=body)
    answers = [await client.post("/v1/generate", json=body, headers=KEY) for _ in range(3)]
    assert [answer.json()["cached"] for answer in answers] == [True] * 3
    assert [charged for _, _, charged in ledger.entries()] == [17, 0]


async def test_a_server_that_remembers_no_keys_says_so(yard: Yard) -> None:
    yard.idempotency = None
    client = await yard.client(app=yard.app())
    answer = await client.post("/v1/generate", json={"prompt": "hi"}, headers=KEY)
    assert (answer.status_code, answer.json()["code"]) == (422, "unsupported_parameter")


async def test_an_answer_that_cannot_be_written_down_does_not_go_out(yard: Yard, ledger: Ledger) -> None:
    """A lost lease: another process may do the request, so nothing is charged here and the caller is told."""
    yard.engine = yard.new_engine(ANSWER, token_s=0.005)
    client = await yard.client(app=yard.app())
    task = asyncio.create_task(client.post("/v1/generate", json={"prompt": "hi"}, headers=KEY))
    await asyncio.sleep(0.03)
    yard.clock.advance(31)
    with yard.database.begin() as connection:
        connection.execute(text("UPDATE core_idempotency SET holder = 'another'"))
    answer = await task
    assert (answer.status_code, answer.json()["code"]) == (503, "idempotency_lost")
    assert yard.meter.opened[-1].is_refunded
    assert dialects.status_of(errors.Conflict("x"), "native") == 409


async def test_vectors_are_made_and_charged_once(client: httpx.AsyncClient, ledger: Ledger, yard: Yard) -> None:
    body = {"model": "yard/bytes", "input": "abc"}
    first, again = [await client.post("/v1/embeddings", json=body, headers=KEY) for _ in range(2)]
    assert (first.status_code, first.content) == (200, again.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert ledger.entries() == [("/v1/embeddings", "done", 3)]
    assert sum(isinstance(call, calls.Embed) for call in yard.engine.seen) == 1


class Waiting:
    """Is paid for at last when nobody waits for it any more."""

    async def settle(self, *also: Write) -> None:
        await asyncio.Event().wait()

    async def fail(self) -> None:
        raise AssertionError("what is being paid for has not failed")


async def test_who_leaves_while_his_answer_is_charged_does_not_free_the_key(database: Database) -> None:
    idempotency = Idempotency(database, SystemClock(), ttl_s=60.0)
    scope = Scope("default", "/v1/generate", "order-1")
    ticket = await idempotency.begin(scope, b"body")
    assert isinstance(ticket, Ticket)
    paying = asyncio.create_task(answering.settled(Waiting(), b"{}", ticket))
    await asyncio.sleep(0.01)
    paying.cancel()
    await asyncio.gather(paying, return_exceptions=True)
    await ticket.release()  # as the route does
    again = asyncio.create_task(idempotency.begin(scope, b"body"))
    await asyncio.sleep(0.05)
    assert not again.done()
    again.cancel()
    await asyncio.gather(again, return_exceptions=True)
    await idempotency.aclose()
