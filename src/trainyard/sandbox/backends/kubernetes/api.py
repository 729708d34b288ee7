"""A client of the Kubernetes API for the few requests that boxes need, over aiohttp."""

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from trainyard.sandbox.backends.kubernetes.access import Access

Object = dict[str, Any]

_ANSWER_S: Final = 15.0
"""For one answer: longer than an API server needs, shorter than a caller waits."""

_ATTEMPTS: Final = 5
_FIRST_WAIT_S: Final = 0.2
_LONGEST_WAIT_S: Final = 10.0
_LONGEST_BID_S: Final = 30.0
"""A `Retry-After` beyond it is left to the caller."""

_WATCH_S: Final = 300
"""After that the server ends a watch by itself, so that watches spread over several servers again."""

_SILENCE_S: Final = 90.0
"""A watch gets a bookmark about every minute; one without is broken."""

_LONGEST_LINE_BYTES: Final = 4 << 20
_LACKING: Final = re.compile(r'cannot (?P<verb>\S+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"')


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource: its place in URLs, and its name in messages."""

    root: str
    plural: str


PODS: Final = Kind("/api/v1", "pods")
JOBS: Final = Kind("/apis/batch/v1", "jobs")
LEASES: Final = Kind("/apis/coordination.k8s.io/v1", "leases")
POLICIES: Final = Kind("/apis/networking.k8s.io/v1", "networkpolicies")
RUNTIME_CLASSES: Final = Kind("/apis/node.k8s.io/v1", "runtimeclasses")


class ApiError(Exception):
    """The API server refuses, or does not answer.

    Attributes:
        status: HTTP status; 0 when there was no answer.
        text: What is wrong and what would be right, in one sentence.
    """

    def __init__(self, status: int, text: str, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.status, self.text, self.retry_after_s = status, text, retry_after_s

    @property
    def is_passing(self) -> bool:
        """Whether the same request can succeed a little later."""
        return self.status in (0, 429) or self.status >= 500


@dataclass(frozen=True, slots=True)
class Listed:
    """What there is, and the version from which a watch goes on."""

    items: list[Object]
    version: str


_METHODS: Final = {"create": "POST", "patch": "PATCH", "delete": "DELETE", "get": "GET", "list": "GET", "watch": "GET"}
_CONTENT: Final = {"patch": "application/merge-patch+json"}


class Api:
    """Sends requests; what passes (429, 5xx, no answer) is tried again with growing, random waits, five times in all.

    Args:
        access: Where, and as whom.
        namespace: Of everything but runtime classes.
        first_wait_s: Before the second try; doubles until ten seconds. `Retry-After` is the least wait.
    """

    def __init__(self, access: Access, namespace: str, *, first_wait_s: float = _FIRST_WAIT_S) -> None:
        self._access, self.namespace, self._first_wait_s = access, namespace, first_wait_s
        self._session: aiohttp.ClientSession | None = None

    @property
    def url(self) -> str:
        """Of the API server."""
        return self._access.url

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def list(self, kind: Kind, labels: str = "") -> Listed:
        """List by a label selector."""
        found = await self._ask("list", kind, query={"labelSelector": labels} if labels else {})
        return Listed(found["items"], found["metadata"]["resourceVersion"])

    async def look(self, kind: Kind, name: str) -> Object:
        """Read one object that belongs to no namespace."""
        return await self._ask("get", kind, f"{kind.root}/{kind.plural}/{name}")

    async def create(self, kind: Kind, body: Object) -> Object | None:
        """Make an object with a name that nobody else takes; None when the answer that it is made was lost."""
        return await self._ask("create", kind, body=body, query={"fieldValidation": "Strict"}) or None

    async def patch(self, kind: Kind, name: str, change: Object) -> Object:
        """Merge a change in (RFC 7386); with `metadata.resourceVersion` it is 409 unless that is the newest."""
        return await self._ask("patch", kind, self._path(kind, name), change)

    async def delete(self, kind: Kind, name: str, *, uid: str | None = None, version: str | None = None) -> bool:
        """Delete an object with what it has made; whether it was there, and the one that was meant."""
        wanted = {"uid": uid, "resourceVersion": version}
        options: Object = {"propagationPolicy": "Background"}
        if preconditions := {key: value for key, value in wanted.items() if value is not None}:
            options["preconditions"] = preconditions
        try:
            await self._ask("delete", kind, self._path(kind, name), options)
        except ApiError as error:
            if error.status in (404, 409):
                return False
            raise
        return True

    async def watch(self, kind: Kind, labels: str, version: str) -> AsyncIterator[Object]:
        """Give events from a version on, bookmarks included, until the server ends the watch.

        Raises:
            ApiError: It breaks; 410 when the version is too old.
        """
        query = {"watch": "1", "allowWatchBookmarks": "true", "resourceVersion": version}
        query |= {"labelSelector": labels, "timeoutSeconds": str(_WATCH_S)}
        timeout = aiohttp.ClientTimeout(sock_connect=_ANSWER_S, sock_read=_SILENCE_S)
        with self._reached():
            async with self._send("watch", self._path(kind), None, query, timeout) as answer:
                if answer.status != 200:
                    raise _refusal(answer, await answer.read(), f"watch {kind.plural}")
                async for line in _lines(answer):
                    yield _event(line)

    async def _ask(
        self,
        verb: str,
        kind: Kind,
        path: str | None = None,
        body: Object | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Object:
        for attempt in range(_ATTEMPTS):
            try:
                return await self._once(verb, kind, path or self._path(kind), body, query or {})
            except ApiError as error:
                if verb == "create" and error.status == 409 and attempt > 0:
                    return {}  # made by the try before, whose answer was lost
                if not error.is_passing or attempt == _ATTEMPTS - 1 or (error.retry_after_s or 0) > _LONGEST_BID_S:
                    raise
                await asyncio.sleep(wait_s(attempt, self._first_wait_s, error.retry_after_s))
        raise AssertionError("the last try gives or raises")

    async def _once(self, verb: str, kind: Kind, path: str, body: Object | None, query: Mapping[str, str]) -> Object:
        timeout = aiohttp.ClientTimeout(total=_ANSWER_S)
        with self._reached():
            async with self._send(verb, path, body, query, timeout) as answer:
                content = await answer.read()
        if answer.status >= 300:
            raise _refusal(answer, content, f"{verb} {kind.plural}")
        return _object(content)

    def _path(self, kind: Kind, name: str = "") -> str:
        return f"{kind.root}/namespaces/{self.namespace}/{kind.plural}" + (f"/{name}" if name else "")

    def _send(
        self, verb: str, path: str, body: Object | None, query: Mapping[str, str], timeout: aiohttp.ClientTimeout
    ) -> Any:  # the library's own type of a request that is awaited or entered is not public
        if self._session is None:
            self._session = aiohttp.ClientSession(auto_decompress=True, read_bufsize=_LONGEST_LINE_BYTES)
        headers = {"Accept": "application/json", "Content-Type": _CONTENT.get(verb, "application/json")}
        return self._session.request(
            _METHODS[verb],
            self._access.url + path,
            params=query,
            data=None if body is None else json.dumps(body),
            headers=headers | self._access.headers(),
            ssl=self._access.tls if self._access.tls is not None else True,
            timeout=timeout,
            allow_redirects=False,  # the token is for this server
        )

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Turn what goes wrong below HTTP into an answer that did not come."""
        try:
            yield
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            why = str(error) or type(error).__name__
            raise ApiError(0, f"the API server {self.url} does not answer: {why}") from error


def wait_s(attempt: int, first_s: float, bid_s: float | None = None) -> float:
    """Draw the wait after an attempt (the first is 0): up to a bound that doubles, on top of what the server bids."""
    return (bid_s or 0.0) + random.uniform(0, min(_LONGEST_WAIT_S, first_s * 2 ** min(attempt, 10)))  # noqa: S311 - not a secret


async def _lines(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    held = bytearray()
    async for piece in answer.content.iter_any():
        held += piece
        *whole, rest = held.split(b"\n")
        for line in whole:
            yield bytes(line)
        held = bytearray(rest)
        if len(held) > _LONGEST_LINE_BYTES:
            raise ApiError(0, f"an event of the API server is longer than {_LONGEST_LINE_BYTES} bytes")


def _event(line: bytes) -> Object:
    event = _object(line)
    if event.get("type") == "ERROR":
        status = event.get("object", {})
        raise ApiError(status.get("code", 500), f"the watch ends: {status.get('message', 'without a reason')}")
    return event


def _object(content: bytes) -> Object:
    try:
        found = json.loads(content)
    except ValueError as error:
        raise ApiError(0, "the API server answers with something that is no JSON; is it one?") from error
    if not isinstance(found, dict):
        raise ApiError(0, "the API server answers with something that is no object; is it one?")
    return found


def _refusal(answer: aiohttp.ClientResponse, content: bytes, what: str) -> ApiError:
    try:
        said = str(_object(content).get("message", ""))
    except ApiError:
        said = content[:200].decode(errors="replace")
    bid = answer.headers.get("Retry-After", "")
    return ApiError(answer.status, _explained(answer.status, said, what), float(bid) if bid.isdigit() else None)


def _explained(status: int, said: str, what: str) -> str:
    if status == 401:
        return f"the API server does not know our token ({what}: 401); renew the service account's or the kubeconfig's"
    if status == 403 and (lacking := _LACKING.search(said)):
        resource = f"{lacking['resource']}.{lacking['group']}" if lacking["group"] else lacking["resource"]
        return f"the Role of the server lacks the verb '{lacking['verb']}' on '{resource}'; the API server says: {said}"
    return f"the API server refuses to {what} ({status}): {said}"
