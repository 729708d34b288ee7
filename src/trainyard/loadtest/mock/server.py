"""The mock as a server on a port: one event loop, HTTP/1.1 with keep-alive, no framework."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import msgspec

from trainyard.loadtest.mock import wire_ollama, wire_openai
from trainyard.loadtest.mock.answers import Answer, Whole
from trainyard.loadtest.mock.connection import Connection, Latency, Request
from trainyard.loadtest.mock.faults import STATUSES, Fault, Plan
from trainyard.loadtest.mock.seen import Recorded, Seen

_FAULT_HEADER = b"x-mock-fault"
_DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError)


class _PlannedFault(msgspec.Struct, forbid_unknown_fields=True):
    fault: str
    times: int | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class _Route:
    answer: Callable[[bytes, "MockServer", Fault | None], Answer]
    failure: Callable[..., Whole]


class MockServer:
    """An LLM server without a model; several can run beside each other.

    Attributes:
        latency: In effect for the next requests.
        plan: Faults of the next requests.
        seen: What came so far.
        models: Names that it lists; it answers for every other name too.
        api_key: When set, requests without this bearer token are answered 401.
    """

    def __init__(
        self, *, latency: Latency | None = None, models: Sequence[str] = ("mock",), api_key: str | None = None
    ) -> None:
        self.latency = latency or Latency()
        self.models = tuple(models)
        self.api_key = api_key
        self.plan = Plan()
        self.seen = Seen()
        self.url = ""
        self._connections: set[Connection] = set()

    @asynccontextmanager
    async def listening(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator["MockServer"]:
        """Serve on the running event loop until the block ends; `url` is where."""
        server = await asyncio.get_running_loop().create_server(self._connection, host, port)
        self.url = "http://{}:{}".format(*server.sockets[0].getsockname()[:2])
        try:
            yield self
        finally:
            server.close()
            for connection in tuple(self._connections):
                connection.close()
            await asyncio.sleep(0)

    def _connection(self) -> Connection:
        return Connection(self, self._connections)

    def answer(self, request: Request) -> tuple[Answer, Fault | None]:
        """Decide what a request gets; a fault that is more than another answer is left to the connection."""
        if request.path.startswith("/_mock/"):
            return self._control(request), None
        self.seen.requests[request.path] += 1
        self.seen.recent.append(Recorded(request.path, request.headers, request.body))
        route = _ROUTES.get((request.method, request.path))
        if route is None:
            return wire_openai.failure(404, f"{request.method} {request.path} is not part of the mock"), None
        if self.api_key is not None and request.headers.get(b"authorization") != b"Bearer " + self.api_key.encode():
            return route.failure(401, "Incorrect API key provided"), None
        try:
            model = _decode_model(request.body).model if request.body else ""
            self.seen.models[model] += bool(model)
            fault = self.plan.choose(request.headers.get(_FAULT_HEADER), model)
            if fault is None:
                return route.answer(request.body, self, None), None
            self.seen.faults[fault.value] += 1
            return self._faulty(route, request.body, fault), fault
        except _DECODE_ERRORS as error:
            return route.failure(400, f"The body cannot be read: {error}"), None

    def _faulty(self, route: _Route, body: bytes, fault: Fault) -> Answer:
        if fault is Fault.REDIRECT:
            return replace(route.failure(302, "elsewhere"), headers={"Location": "http://192.0.2.1/elsewhere"})
        if fault in STATUSES:
            headers = {"Retry-After": "1"} if fault is Fault.OVERLOADED else None
            return route.failure(STATUSES[fault], f"the mock was told to answer {fault}", headers)
        if fault is Fault.HTML:
            return Whole(b"<html><body>It works!</body></html>", content_type="text/html")
        answer = route.answer(body, self, fault)
        if isinstance(answer, Whole) and fault is Fault.GARBAGE:
            return replace(answer, body=answer.body[: len(answer.body) // 2])
        return replace(answer, body=b"{}") if isinstance(answer, Whole) and fault is Fault.EMPTY else answer

    def _control(self, request: Request) -> Whole:
        try:
            match request.method, request.path:
                case "GET", "/_mock/seen":
                    pass
                case "POST", "/_mock/reset":
                    self.seen.reset()
                case "POST", "/_mock/faults":
                    planned = msgspec.json.decode(request.body, type=_PlannedFault)
                    self.plan.add(planned.fault, planned.times, planned.model)
                case "DELETE", "/_mock/faults":
                    self.plan.clear()
                case "PUT", "/_mock/latency":
                    self.latency = msgspec.json.decode(request.body, type=Latency)
                case _:
                    return wire_openai.failure(404, f"{request.method} {request.path} is not part of the mock")
        except (*_DECODE_ERRORS, ValueError) as error:
            return wire_openai.failure(400, f"The body cannot be read: {error}")
        return Whole(msgspec.json.encode(self.seen.report()))


_decode_model = msgspec.json.Decoder(wire_ollama.AskedModel).decode

_ROUTES: dict[tuple[str, str], _Route] = {
    ("GET", "/v1/models"): _Route(lambda _, mock, __: wire_openai.models(mock.models), wire_openai.failure),
    ("POST", "/v1/chat/completions"): _Route(
        lambda body, mock, fault: wire_openai.chat(wire_openai.decode_text(body), mock.latency.answer_tokens, fault),
        wire_openai.failure,
    ),
    ("POST", "/v1/completions"): _Route(
        lambda body, mock, fault: wire_openai.completion(
            wire_openai.decode_text(body), mock.latency.answer_tokens, fault
        ),
        wire_openai.failure,
    ),
    ("POST", "/v1/embeddings"): _Route(
        lambda body, _, fault: wire_openai.embeddings(wire_openai.decode_vectors(body), fault), wire_openai.failure
    ),
    ("GET", "/api/tags"): _Route(lambda _, mock, __: wire_ollama.tags(mock.models), wire_ollama.failure),
    ("GET", "/api/version"): _Route(lambda _, __, ___: wire_ollama.version(), wire_ollama.failure),
    ("POST", "/api/show"): _Route(
        lambda body, _, __: wire_ollama.show(wire_ollama.decode_model(body)), wire_ollama.failure
    ),
    ("POST", "/api/chat"): _Route(
        lambda body, mock, fault: wire_ollama.chat(wire_ollama.decode_text(body), mock.latency.answer_tokens, fault),
        wire_ollama.failure,
    ),
    ("POST", "/api/generate"): _Route(
        lambda body, mock, fault: wire_ollama.generate(
            wire_ollama.decode_text(body), mock.latency.answer_tokens, fault
        ),
        wire_ollama.failure,
    ),
    ("POST", "/api/embed"): _Route(
        lambda body, _, fault: wire_ollama.embed(wire_ollama.decode_vectors(body), fault), wire_ollama.failure
    ),
}


async def serve(mock: MockServer, host: str, port: int, started: Callable[[str], None]) -> None:
    """Serve until cancelled.

    Args:
        mock: The server.
        host: Address to listen on.
        port: 0 takes a free one.
        started: Called with the URL once it listens.
    """
    async with mock.listening(host, port):
        started(mock.url)
        await asyncio.Event().wait()


@contextlib.contextmanager
def in_thread(mock: MockServer) -> Iterator[MockServer]:
    """Serve from a thread of its own, for callers without an event loop; `url` is set when the block begins."""
    is_up, ends = threading.Event(), socket.socketpair()

    async def run() -> None:
        async with mock.listening():
            is_up.set()
            ends[1].setblocking(False)
            await asyncio.get_running_loop().sock_recv(ends[1], 1)

    thread = threading.Thread(target=asyncio.run, args=(run(),), daemon=True)
    thread.start()
    try:
        is_up.wait(10)
        yield mock
    finally:
        ends[0].send(b"x")
        thread.join(10)
        for end in ends:
            end.close()
