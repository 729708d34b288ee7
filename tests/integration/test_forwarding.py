"""Handing requests on to the process that serves them, over a real socket."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import APIRouter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from trainyard.core import errors
from trainyard.core.http.forwarding import HANDED_ON, Forwarder, Neighbours


async def echo(request: Request) -> Response:
    facts = {
        "method": request.method,
        "path": request.url.path,
        "raw_path": request.scope["raw_path"].decode(),
        "headers": dict(request.headers),
        "query": request.url.query,
        "body": (await request.body()).decode(),
        "authorization": request.headers.get("authorization"),
        "request_id": request.headers.get("x-request-id"),
    }
    return JSONResponse(facts, 201, headers={"Retry-After": "7", "X-Request-ID": "theirs"})


left = asyncio.Event()


async def endless(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 1000
                await asyncio.sleep(0)
        finally:
            left.set()

    return StreamingResponse(pieces())


BEHIND = Starlette(
    routes=[
        Route("/runs/{run_id}", echo, methods=["GET", "POST", "DELETE"]),
        Route("/endless", endless),
        Route("/healthz", echo),
    ]
)


@pytest.fixture
async def socket(tmp_path: Path) -> AsyncIterator[Path]:
    path = tmp_path / "worker.sock"
    server = uvicorn.Server(uvicorn.Config(BEHIND, uds=str(path), log_config=None))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    yield path
    server.should_exit = server.force_exit = True
    await serving


@pytest.fixture
async def client(socket: Path) -> AsyncIterator[httpx.AsyncClient]:
    forwarder = Forwarder(socket)
    front = Starlette(routes=forwarder.routes(APIRouter(routes=BEHIND.routes)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(front), base_url="http://front") as made:
        yield made
    await forwarder.aclose()


async def test_a_request_arrives_whole_and_so_does_its_answer(client: httpx.AsyncClient) -> None:
    answer = await client.post("/runs/run_1?a=%C3%A4&b=", content="öffne", headers={"Authorization": "Bearer sk-x"})
    assert answer.status_code == 201
    seen = answer.json()
    assert seen.pop("headers")["host"] == "worker"
    assert seen == {
        "method": "POST",
        "path": "/runs/run_1",
        "raw_path": "/runs/run_1",
        "query": "a=%C3%A4&b=",
        "body": "öffne",
        "authorization": "Bearer sk-x",
        "request_id": "",
    }
    assert answer.headers["retry-after"] == "7"
    assert "x-request-id" not in answer.headers  # the front names the request


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/runs/a%3Fb", {}),
        ("/runs/a%23b", {}),
        ("/runs/%C3%B6", {}),
        ("/runs/a%2525", {}),
        ("/runs/a;b=c?d=%26&e=+", {}),
        ("/runs/plain", {"Host": "evil/endless?"}),
        ("/runs/plain", {"Host": "user@evil:99999#"}),
    ],
)
async def test_the_path_arrives_as_it_was_judged_in_front(
    client: httpx.AsyncClient, path: str, headers: dict[str, str]
) -> None:
    seen = (await client.get(path, headers=headers)).json()
    assert (seen["raw_path"], seen["query"]) == (path.partition("?")[0], path.partition("?")[2])


async def test_headers_of_the_connection_stay_behind(client: httpx.AsyncClient) -> None:
    sent = {"Connection": "X-Ours, close", "X-Ours": "1", "TE": "trailers", "Expect": "100-continue", "X-Kept": "2"}
    seen = (await client.post("/runs/run_1", content=b"x", headers=sent)).json()
    assert {"x-ours", "te", "expect"}.isdisjoint(seen["headers"])
    assert seen["headers"]["x-kept"] == "2"
    assert seen["headers"][HANDED_ON] == "1"


async def test_a_method_that_the_route_does_not_take_is_refused_in_front(client: httpx.AsyncClient) -> None:
    assert (await client.put("/runs/run_1")).status_code == 405


async def test_a_client_that_leaves_ends_the_work_behind(socket: Path) -> None:
    left.clear()
    forwarder = Forwarder(socket)
    sent = asyncio.Event()

    async def receive() -> dict[str, object]:
        if sent.is_set():
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: object) -> None:
        sent.set()

    scope = {
        "type": "http", "method": "GET", "path": "/endless", "query_string": b"", "headers": [], "http_version": "1.1",
        "scheme": "http", "server": ("front", 80), "root_path": "", "asgi": {"version": "3.0", "spec_version": "2.4"},
    }  # fmt: skip
    answering = asyncio.create_task(Starlette(routes=[forwarder.route("/endless", "GET")])(scope, receive, send))
    await asyncio.wait_for(sent.wait(), 5)
    answering.cancel()
    await asyncio.wait([answering])
    await asyncio.wait_for(left.wait(), 5)
    await forwarder.aclose()


async def test_a_process_that_is_away_is_an_error_that_says_when_to_return(tmp_path: Path) -> None:
    forwarder = Forwarder(tmp_path / "nobody.sock")
    with pytest.raises(errors.Unavailable) as away:
        await forwarder.ping()
    assert (away.value.code, away.value.retry_after_s) == ("worker_restarting", 1)
    await forwarder.aclose()


async def test_what_nobody_listens_for_has_not_happened(tmp_path: Path) -> None:
    forwarder = Forwarder(tmp_path / "nobody.sock")
    scope = {"type": "http", "method": "POST", "path": "/exec", "query_string": b""}
    assert await forwarder.hand_on(scope, [("content-length", "2")], b"{}", "req_1") is None
    await forwarder.aclose()


async def test_processes_of_one_server_find_each_other_and_those_of_another_do_not(tmp_path: Path) -> None:
    first = Neighbours(tmp_path / "a", 0, [(1, tmp_path / "a" / "1")])
    second = Neighbours(tmp_path / "a", 1, [(0, tmp_path / "a" / "0")])
    other = Neighbours(tmp_path / "b", 1, [(0, tmp_path / "b" / "0")])
    assert first.of(second.name) is not None
    assert second.of(first.name) is not None
    assert (first.of(first.name), first.of(other.name), other.of(first.name)) == (None, None, None)
    assert not Neighbours(tmp_path, 0, [])


async def test_a_process_that_answers_is_there(socket: Path) -> None:
    forwarder = Forwarder(socket)
    await forwarder.ping()
    await forwarder.aclose()
