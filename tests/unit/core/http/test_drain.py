import asyncio

from starlette.testclient import TestClient

from trainyard.core.http.application import HttpParts
from trainyard.core.http.drain import Drain


def test_a_draining_server_refuses_work_and_still_tells_its_health(client: TestClient, parts: HttpParts) -> None:
    assert client.get("/readyz").status_code == 200
    parts.drain.begin()
    parts.drain.begin()
    refused = client.post("/runs", json={"rank": 1})
    assert (refused.status_code, refused.json()["code"]) == (503, "draining")
    assert refused.headers["connection"] == "close"
    assert refused.headers["retry-after"] == "1"
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (503, "draining")
    assert client.get("/healthz").status_code == 200
    assert client.get("/metrics").status_code == 200


def test_requests_are_counted_while_they_run_and_not_after(client: TestClient, parts: HttpParts) -> None:
    client.post("/runs", json={"rank": 1})
    client.get("/runs/1/fail/bug")
    assert parts.drain.in_flight == 0


async def test_waiting_ends_with_the_last_request() -> None:
    drain = Drain()
    drain.enter()
    drain.enter()
    drain.begin()
    waiting = asyncio.create_task(drain.wait(timeout_s=30))
    await asyncio.sleep(0)
    drain.leave()
    await asyncio.sleep(0)
    assert not waiting.done()
    drain.leave()
    assert await waiting == 0


async def test_waiting_ends_at_the_deadline_and_tells_what_still_runs() -> None:
    drain = Drain()
    drain.enter()
    assert await drain.wait(timeout_s=0.01) == 1


async def test_an_idle_server_does_not_wait() -> None:
    assert await Drain().wait(timeout_s=0) == 0
