"""Our side of uvicorn's protocol: bounds on connections, heads and pace of bodies, and what a request costs."""

import asyncio
import resource
import sys
import urllib.parse
from collections.abc import Callable
from typing import Any, ClassVar, Final, Literal
from weakref import WeakKeyDictionary

import httptools
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from trainyard.core.http.cycle import Cycle, Outbox
from trainyard.core.http.known_head import KNOWN_HEAD, KnownHead
from trainyard.core.http.leaving import WIRE

HEAD_TIMEOUT_S: Final = 30.0
"""From the connection, or from the first byte of a further request on it, to the end of the headers."""

HEAD_BYTES: Final = 64 * 1024
"""Of request line and headers; what is over it by less than one read of the socket (256 KB) still passes."""


BODY_LOOK_S: Final = 30.0
"""How often the pace of a body is looked at."""

BODY_BYTES_S: Final = 100.0
"""Bytes per second under which a body does not come any more; the slowest modems sent ten times as many."""

MAX_WAITING: Final = 100
"""Requests behind the one that runs on a connection; a read of the socket can hold thousands, of 30 KB each here."""

WRITE_LOOK_S: Final = 30.0
"""How often it is looked whether a client takes anything of an answer that waits for it."""

_FOR_CONNECTIONS: Final = 0.75
"""Share of the descriptors of this process; the others are for files, engines and servers elsewhere."""

_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\nretry-after: 1\r\n"
    b"content-length: 24\r\nconnection: close\r\n\r\nToo many connections now"
)

_CLOCK_S: Final = 0.001
"""What uvloop's clock counts in."""


AtOnce = Callable[[Scope, Receive, Send], bool]


class BoundedHeads(HttpToolsProtocol):
    """Uvicorn's protocol, which bounds neither connections nor time and size of a head nor the pace of a body.

    The size of bodies is bounded by what reads them. Another protocol that a head asks for is passed over, as RFC 9110
    (7.8) allows; uvicorn would take the body for the next request. A head costs a descriptor and memory, and needs no
    key. Timers are set for what really waits: a head that comes whole needs none, and a kept connection has one that is
    looked at, not one per request. Requests are `Cycle`s. A request whose head is that of the one before is not parsed.
    An application that has `at_once` (see `door.HotDoor`) is asked for each request before a task is made for it.
    Neither is done where uvicorn's `limit_concurrency` decides what runs.

    Attributes:
        head_timeout_s: After this, a connection whose headers are not complete is closed.
        body_look_s: After this, and again, a connection whose body comes too slowly, or is wanted by nobody, is closed.
        body_bytes_s: Bytes per second that a body needs, while they are read.
        write_look_s: After this, and again, a connection whose client has taken nothing of what waits is cut.
        max_connections: Further ones get 503 at once; None = what the limit of descriptors allows.
        outer_scheme: Of the address under which clients know the server, where this connection is not theirs.
    """

    _outboxes: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, Outbox]] = WeakKeyDictionary()

    head_timeout_s = HEAD_TIMEOUT_S
    body_look_s = BODY_LOOK_S
    body_bytes_s = BODY_BYTES_S
    write_look_s = WRITE_LOOK_S
    max_connections: int | None = None
    outer_scheme: Literal["http", "https"] | None = None
    _deadline: asyncio.TimerHandle | None = None
    _is_in_head = True
    _is_in_body = False
    _wants_another_protocol = False
    _seen_bytes = 0
    _seen_at_look = 0
    _was_paused = False
    _unread: asyncio.TimerHandle | None = None
    _running: Cycle | None = None
    _idle_since: float | None = None
    _known: KnownHead | None = None
    _begun = 0

    def __init__(self, config: uvicorn.Config, *args: Any, **named: Any) -> None:
        super().__init__(config, *args, **named)
        self._at_once: AtOnce | None = getattr(self.app, "at_once", None) if self.limit_concurrency is None else None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head, unless there are too many connections."""
        super().connection_made(transport)
        self.scheme = self.outer_scheme or self.scheme
        self._outbox = self._outboxes.setdefault(self.loop, Outbox(self.loop))
        if len(self.connections) > (self.max_connections or most_connections()):
            transport.write(_FULL)
            transport.close()
            return
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer, and tell the requests that run and wait on this connection."""
        self._forget_deadline()
        self._forget_unread()
        running, self._running = self._running, None
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        for cycle in (running, *(waiting for waiting, _ in self.pipeline)):
            if isinstance(cycle, Cycle):
                cycle.lose()

    def data_received(self, data: bytes) -> None:
        """Pass bytes on unless they make a head too large."""
        self._idle_since = None
        if self._is_in_head and self._seen_bytes > HEAD_BYTES:
            self.send_400_response(f"The headers are larger than {HEAD_BYTES} bytes; send less")
            return
        is_at_rest = self._is_at_rest
        if is_at_rest and self._known is not None and (body := self._known.body_of(data)) is not None:
            self._begin_again(self._known, body)
            return
        self._seen_bytes += len(data)
        begun = self._begun
        try:
            self._parse(data)
        except httptools.HttpParserError:
            if self.transport.is_closing():
                return
            self.logger.warning("Invalid HTTP request received.")
            self.send_400_response("Invalid HTTP request received.")
            return
        if self._deadline is None and not self.transport.is_closing():
            if self._is_in_head:
                self._expect_head()
            elif self._is_in_body:
                self._expect_body()
            elif is_at_rest and self._begun == begun + 1 and self.cycle.keep_alive and self.limit_concurrency is None:
                self._known = KnownHead.of(data, self.scope)

    def pause_writing(self) -> None:
        """Have senders wait for the client, as long as he reads."""
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        """Let senders go on."""
        super().resume_writing()
        self._forget_unread()

    def eof_received(self) -> None:
        """Let go of answers before the connection is closed."""
        self._outbox.flush()

    def shutdown(self) -> None:
        """Let go of answers before the connection is closed."""
        self._outbox.flush()
        super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Let go of earlier answers first."""
        self._outbox.flush()
        super().send_400_response(msg)

    def on_message_begin(self) -> None:
        """Count a further head."""
        super().on_message_begin()
        self._begun += 1
        if not self._is_in_head:
            self._is_in_head, self._seen_bytes = True, 0

    def on_headers_complete(self) -> None:
        """Begin the request, or queue it behind the one that runs on this connection."""
        self._wants_another_protocol = self.parser.should_upgrade()
        if self._wants_another_protocol:
            return  # comes again without that wish
        self._is_in_head, self._is_in_body = False, True
        self._forget_deadline()
        if len(self.pipeline) >= MAX_WAITING:
            self.transport.abort()  # an answer here would be taken for that of an earlier request
            raise httptools.HttpParserError("too many requests at once")
        if self.limit_concurrency is not None:
            super().on_headers_complete()
            return
        version = self._complete_scope(self.scope)
        self._begin(
            self.scope,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            waits_to_send=self.expect_100_continue,
        )

    def on_message_complete(self) -> None:
        """Tell that the body is whole; where its answer went out before it, the connection begins to rest."""
        if self._wants_another_protocol:
            return
        self._is_in_body = False
        self._forget_deadline()
        if self.cycle.response_complete:
            self._rest()
            return
        self.cycle.more_body = False
        self.cycle.message_event.set()

    def on_response_complete(self) -> None:
        """Begin the next request of this connection, or let it rest."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._rest()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has rested for its whole time; look again later at any other."""
        self.timeout_keep_alive_task = None
        if self._idle_since is None:
            return
        left_s = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left_s > _CLOCK_S:
            self._look_at_idleness_in(left_s)
        elif not self.transport.is_closing():
            self.transport.close()

    @property
    def _is_at_rest(self) -> bool:
        """Whether what comes next is a head, and nothing is under way; a head counts from its first byte."""
        if self._is_in_body or (self._is_in_head and self._begun):
            return False
        return (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing()

    def _begin_again(self, known: KnownHead, body: bytes) -> None:
        """Begin a whole request whose head is known."""
        self._is_in_head = False
        self._forget_deadline()
        scope = {
            **known.scope,
            "server": self.server,
            "client": self.client,
            "headers": known.headers_for(body),
            "state": self.app_state.copy(),
            KNOWN_HEAD: known,
        }
        self._begin(scope, keep_alive=True, body=body)

    def _begin(self, scope: Any, *, keep_alive: bool, waits_to_send: bool = False, body: bytes | None = None) -> None:
        """Begin a request, or queue it behind the one that runs on this connection."""
        earlier = self.cycle
        self.cycle = cycle = Cycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=waits_to_send,
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )
        cycle.outbox = self._outbox
        scope[WIRE] = cycle
        if body is not None:
            cycle.give_body(body)
        if earlier is None or earlier.response_complete:
            self._start_asgi_task(cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None

    def _rest(self) -> None:
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_at_idleness_in(self.timeout_keep_alive)

    def _look_at_idleness_in(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = cycle
        if self._at_once is None or not self._at_once(cycle.scope, cycle.receive, cycle.send):
            super()._start_asgi_task(cycle, app)

    def _complete_scope(self, scope: Any) -> str:
        """Fill in what stands in the request line, as uvicorn does; returns the version of HTTP."""
        version = self.parser.get_http_version()
        scope["method"] = self.parser.get_method().decode("ascii")
        if version != "1.1":
            scope["http_version"] = version
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        scope["path"] = self.root_path + (urllib.parse.unquote(path) if "%" in path else path)
        scope["raw_path"] = self.root_path.encode("ascii") + url.path
        scope["query_string"] = url.query or b""
        return str(version)

    def _parse(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as wish:
                rest = rest[wish.args[0] :]
                self._ask_again()
            else:
                return

    def _ask_again(self) -> None:
        """Parse a head that asks for another protocol once more, without that; the parser takes no body otherwise.

        Raises:
            httptools.HttpParserError: It opens a tunnel.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":
            raise httptools.HttpParserError
        tokens = [token for name, value in self.headers if name == b"connection" for token in value.lower().split(b",")]
        kept = [pair for pair in self.headers if pair[0] not in (b"connection", b"upgrade", b"http2-settings")]
        if b"close" in map(bytes.strip, tokens):
            kept.append((b"connection", b"close"))
        lines = b"".join(b"%b: %b\r\n" % pair for pair in kept)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version, lines))

    def _expect_body(self) -> None:
        self._seen_at_look = self._seen_bytes
        self._deadline = self.loop.call_later(self.body_look_s, self._look_at_body)

    def _look_at_body(self) -> None:
        """Close a connection whose body does not come, though it is read, or comes though it is not."""
        self._deadline = None
        if self.transport.is_closing():
            return
        waits_for_us = self._was_paused or self.flow.read_paused
        self._was_paused = self.flow.read_paused
        is_slow = self._seen_bytes - self._seen_at_look < self.body_bytes_s * self.body_look_s
        if self.cycle.response_complete or (is_slow and not waits_for_us):
            self.transport.close()
        else:
            self._expect_body()

    def _expect_reading(self) -> None:
        waits_bytes = self.transport.get_write_buffer_size()
        self._unread = self.loop.call_later(self.write_look_s, self._look_at_reader, waits_bytes)

    def _look_at_reader(self, waited_bytes: int) -> None:
        """Cut a connection whose client reads nothing: he holds a place at the engine, and memory."""
        if self.transport.get_write_buffer_size() < waited_bytes:
            self._expect_reading()
        else:
            self.transport.abort()

    def _forget_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _expect_head(self) -> None:
        self._deadline = self.loop.call_later(self.head_timeout_s, self.transport.close)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def most_connections() -> int:
    """Tell how many connections leave enough descriptors for everything else."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if soft == resource.RLIM_INFINITY else int(soft * _FOR_CONNECTIONS)
