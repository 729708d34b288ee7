"""The REST wire of a Kubernetes API server, as far as it is used: six verbs, watches, selectors, preconditions."""

import asyncio
import copy
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from tests.services.kubernetes import admission, answers, resources, selectors
from tests.services.kubernetes.access import Access
from tests.services.kubernetes.answers import Refused
from tests.services.kubernetes.faults import Faults
from tests.services.kubernetes.resources import Resource
from tests.services.kubernetes.store import Event, Object, Store, now

_WATCHED = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_PARAMETERS = {
    "labelSelector", "fieldSelector", "resourceVersion", "watch", "allowWatchBookmarks", "timeoutSeconds",
    "fieldValidation", "fieldManager", "propagationPolicy", "gracePeriodSeconds", "pretty",
}  # fmt: skip


class ApiServer:
    """Answers requests out of a store.

    Attributes:
        seen: Every request so far as (verb, plural, name).
        bookmark_s: How often a watch that asks for bookmarks gets one.
    """

    def __init__(self, store: Store, access: Access) -> None:
        self.store, self.access, self.faults = store, access, Faults()
        self.seen: list[tuple[str, str, str]] = []
        self.bookmark_s = 0.2
        self._watchers: set[asyncio.Queue[Event | Refused | None]] = set()

    def application(self) -> web.Application:
        made = web.Application()
        for root in ("/api/{version}", "/apis/{group}/{version}"):
            for space in ("", "/namespaces/{namespace}"):
                made.router.add_route("*", f"{root}{space}/{{plural}}", self._answered)
                made.router.add_route("*", f"{root}{space}/{{plural}}/{{name}}", self._answered)
        return made

    def break_watches(self, refused: Refused | None = None) -> None:
        """End every open watch: with an ERROR event, or by closing the connection."""
        for queue in self._watchers:
            queue.put_nowait(refused)

    @property
    def watches(self) -> int:
        """Open ones."""
        return len(self._watchers)

    async def _answered(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except Refused as refused:
            headers = {} if refused.retry_after_s is None else {"Retry-After": str(refused.retry_after_s)}
            return web.json_response(refused.status(), status=refused.code, headers=headers)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        parts = request.match_info
        resource = resources.find(parts.get("group", ""), parts["version"], parts["plural"])
        if resource is None or resource.is_namespaced is ("namespace" not in parts):
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        if unknown := set(request.query) - _PARAMETERS:
            raise Refused(400, "BadRequest", f"this fake does not know {sorted(unknown)}")
        namespace, name = parts.get("namespace", ""), parts.get("name", "")
        verb = _verb(request, name)
        self.seen.append((verb, resource.plural, name))
        self.access.check(request.headers.get("Authorization"), verb, resource, namespace, name)
        self.faults.check(verb, resource.plural)
        actions: dict[str, Callable[..., Awaitable[web.StreamResponse]]] = {
            "get": self._get, "list": self._list, "watch": self._watch, "create": self._create,
            "update": self._update, "patch": self._patch, "delete": self._delete,
        }  # fmt: skip
        if verb not in actions:
            raise Refused(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        return await actions[verb](request, resource, namespace, name)

    async def _get(self, _: web.Request, resource: Resource, namespace: str, name: str) -> web.Response:
        return web.json_response(self.store.get(resource, namespace, name))

    async def _list(self, request: web.Request, resource: Resource, namespace: str, _: str) -> web.Response:
        matches = _selected(request)
        found = [each for each in self.store.every(resource, namespace) if matches(each)]
        items = [{key: value for key, value in each.items() if key not in ("kind", "apiVersion")} for each in found]
        body = {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "items": items}
        return web.json_response(body | {"metadata": {"resourceVersion": str(self.store.version)}})

    async def _create(self, request: web.Request, resource: Resource, namespace: str, _: str) -> web.Response:
        body = admission.admit(self.store, resource, namespace, await _body(request))
        return web.json_response(self.store.create(resource, namespace, body), status=201)

    async def _update(self, request: web.Request, resource: Resource, namespace: str, name: str) -> web.Response:
        body = await _body(request)
        body = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
        admission.check_schema(body)

        def replace(stored: Object) -> None:
            self._check_version(resource, stored, body)
            kept = {
                key: stored["metadata"][key] for key in ("uid", "creationTimestamp", "resourceVersion", "namespace")
            }
            metadata = {**body["metadata"], **kept}
            stored.clear()
            stored.update(copy.deepcopy({**body, "metadata": metadata}))

        return web.json_response(self.store.change(resource, namespace, name, replace))

    async def _patch(self, request: web.Request, resource: Resource, namespace: str, name: str) -> web.Response:
        if request.content_type != "application/merge-patch+json":
            raise Refused(415, "UnsupportedMediaType", "this fake takes application/merge-patch+json")
        patch = await _body(request)

        def merge(stored: Object) -> None:
            self._check_version(resource, stored, patch)
            (patch.get("metadata") or {}).pop("resourceVersion", None)
            if resource == resources.PODS and set(patch.get("spec") or ()) - {"activeDeadlineSeconds"}:
                raise Refused(
                    422, "Invalid", f'Pod "{name}" is invalid: spec: Forbidden: pod updates may not change fields'
                )
            _merge(stored, patch)

        return web.json_response(self.store.change(resource, namespace, name, merge))

    async def _delete(self, request: web.Request, resource: Resource, namespace: str, name: str) -> web.Response:
        options = await _body(request) if request.can_read_body else {}
        stored = self.store.get(resource, namespace, name)
        wanted = options.get("preconditions") or {}
        for key, value in wanted.items():
            if stored["metadata"][key] != value:
                raise answers.conflict(resource.qualified, name)
        grace = _grace(options, request, stored, resource)
        policy = options.get("propagationPolicy") or request.query.get("propagationPolicy")
        self.delete(resource, namespace, name, grace, policy)
        return web.json_response(stored if grace else {"kind": "Status", "apiVersion": "v1", "status": "Success"})

    def delete(self, resource: Resource, namespace: str, name: str, grace_s: int, policy: str | None) -> None:
        """Begin the end of an object: at once, or with time for the kubelet and for what holds it back."""

        def mark(each: Object) -> None:
            metadata = each["metadata"]
            metadata.setdefault("deletionTimestamp", now())
            metadata["deletionGracePeriodSeconds"] = min(grace_s, metadata.get("deletionGracePeriodSeconds", grace_s))
            if resource == resources.JOBS:
                # Jobs of batch/v1 leave their pods behind unless the request says otherwise.
                holder = {"Foreground": ["foregroundDeletion"], "Background": []}.get(policy or "Orphan", ["orphan"])
                metadata["finalizers"] = [*metadata.get("finalizers", []), *holder]

        self.store.change(resource, namespace, name, mark)

    def _check_version(self, resource: Resource, stored: Object, sent: Object) -> None:
        metadata = sent.get("metadata") or {}
        for key in ("resourceVersion", "uid"):
            if metadata.get(key) not in (None, stored["metadata"][key]):
                raise answers.conflict(resource.qualified, stored["metadata"]["name"])

    async def _watch(self, request: web.Request, resource: Resource, namespace: str, _: str) -> web.StreamResponse:
        matches = _selected(request)
        queue: asyncio.Queue[Event | Refused | None] = asyncio.Queue()
        past = self.store.since(int(request.query.get("resourceVersion") or self.store.version))
        for event in past:
            queue.put_nowait(event)
        stop = self.store.listen(queue.put_nowait)
        self._watchers.add(queue)
        try:
            answer = web.StreamResponse(headers={"Content-Type": "application/json"})
            answer.enable_chunked_encoding()
            await answer.prepare(request)
            await self._stream(request, answer, queue, (resource, namespace, matches))
        except ConnectionResetError:
            pass  # the client has gone: that is how most watches end
        finally:
            self._watchers.discard(queue)
            stop()
        return answer

    async def _stream(
        self,
        request: web.Request,
        answer: web.StreamResponse,
        queue: "asyncio.Queue[Event | Refused | None]",
        wanted: tuple[Resource, str, selectors.Matches],
    ) -> None:
        bookmarks = request.query.get("allowWatchBookmarks") in ("1", "true")
        end = asyncio.get_running_loop().time() + float(request.query.get("timeoutSeconds") or 1800)
        while (left_s := end - asyncio.get_running_loop().time()) > 0:
            try:
                async with asyncio.timeout(min(self.bookmark_s, left_s)):
                    event = await queue.get()
            except TimeoutError:
                if bookmarks:
                    await answer.write(_line("BOOKMARK", self._bookmark(wanted[0])))
                continue
            if event is None:
                if request.transport is not None:  # the client may have been faster
                    request.transport.abort()
                return
            if isinstance(event, Refused):
                await answer.write(_line("ERROR", event.status()))
                return
            if (line := _seen_by(event, *wanted)) is not None:
                await answer.write(line)

    def _bookmark(self, resource: Resource) -> Object:
        metadata = {"resourceVersion": str(self.store.version), "creationTimestamp": None}
        return {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}


def _verb(request: web.Request, name: str) -> str:
    if request.method == "GET" and not name:
        return "watch" if request.query.get("watch") in ("1", "true", "True") else "list"
    if request.method == "DELETE" and not name:
        return "deletecollection"
    return _WATCHED.get(request.method, request.method)


def _selected(request: web.Request) -> selectors.Matches:
    labels = selectors.by_labels(request.query.get("labelSelector", ""))
    fields = selectors.by_fields(request.query.get("fieldSelector", ""))
    return lambda each: labels(each) and fields(each)


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.read())
    except ValueError as error:
        raise Refused(400, "BadRequest", f"the object provided is unrecognized: {error}") from error
    if not isinstance(body, dict):
        raise Refused(400, "BadRequest", "the object provided is unrecognized: no object")
    return body


def _grace(options: Object, request: web.Request, stored: Object, resource: Resource) -> int:
    if resource != resources.PODS or admission.is_over(stored):
        return 0
    asked = options.get("gracePeriodSeconds", request.query.get("gracePeriodSeconds"))
    if not (stored.get("spec") or {}).get("nodeName"):
        return 0  # no kubelet has it: nobody to wait for
    return int(asked) if asked is not None else int(stored["spec"]["terminationGracePeriodSeconds"])


def _merge(into: Object, patch: Object) -> None:
    """RFC 7386: null removes, objects merge, everything else replaces."""
    for key, value in patch.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict):
            _merge(into.setdefault(key, {}), value)
        else:
            into[key] = value


def _seen_by(event: Event, resource: Resource, namespace: str, matches: selectors.Matches) -> bytes | None:
    """The line of an event for one watch: what leaves its selection is deleted to it, what enters is added."""
    if event.resource != resource or event.after["metadata"].get("namespace", "") != namespace:
        return None
    was, is_now = event.before is not None and matches(event.before), matches(event.after)
    if event.kind == "DELETED":
        return _line("DELETED", event.after) if was else None
    if was and not is_now:
        assert event.before is not None
        metadata = {**event.before["metadata"], "resourceVersion": str(event.version)}
        return _line("DELETED", {**event.before, "metadata": metadata})
    return _line("MODIFIED" if was else "ADDED", event.after) if is_now else None


def _line(kind: str, body: Object) -> bytes:
    return json.dumps({"type": kind, "object": body}, separators=(",", ":")).encode() + b"\n"
