"""What etcd is to the real server: objects, one growing resourceVersion, and a window of past events."""

import copy
import datetime
import secrets
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.services.kubernetes import answers
from tests.services.kubernetes.resources import Resource

Object = dict[str, Any]
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # of generated names, those of the real server


def now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Event:
    """One change; `before` is None for a new object."""

    version: int
    resource: Resource
    kind: str
    before: Object | None
    after: Object


class Store:
    """Objects by resource, namespace and name; every change is an event."""

    def __init__(self) -> None:
        self.version = 1000
        self.oldest = 1000
        self._objects: dict[tuple[Resource, str, str], Object] = {}
        self._events: list[Event] = []
        self._listeners: list[Callable[[Event], None]] = []

    def listen(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Call it for every event from now on, until what is given back is called."""
        self._listeners.append(listener)

        def stop() -> None:
            self._listeners = [each for each in self._listeners if each is not listener]

        return stop

    def compact(self) -> None:
        """Forget the past: a watch that would begin in it is 410."""
        self._events.clear()
        self.oldest = self.version

    def since(self, version: int) -> list[Event]:
        if version < self.oldest:
            raise answers.expired(version, self.oldest)
        return [event for event in self._events if event.version > version]

    def every(self, resource: Resource, namespace: str | None = None) -> Iterator[Object]:
        for (kind, space, _), found in sorted(self._objects.items(), key=lambda each: each[0][1:]):
            if kind == resource and namespace in (None, space):
                yield found

    def get(self, resource: Resource, namespace: str, name: str) -> Object:
        found = self._objects.get((resource, namespace, name))
        if found is None:
            raise answers.not_found(resource.qualified, name)
        return found

    def create(self, resource: Resource, namespace: str, body: Object) -> Object:
        made = copy.deepcopy(body)
        metadata = made["metadata"]
        if "name" not in metadata:
            metadata["name"] = metadata["generateName"] + "".join(secrets.choice(_LETTERS) for _ in range(5))
        key = (resource, namespace, metadata["name"])
        if key in self._objects:
            raise answers.exists(resource.qualified, metadata["name"])
        if resource.is_namespaced:
            metadata["namespace"] = namespace
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
        made |= {"kind": resource.kind, "apiVersion": resource.api_version}
        self._put(key, "ADDED", None, made)
        return made

    def change(self, resource: Resource, namespace: str, name: str, edit: Callable[[Object], None]) -> Object:
        """Apply an edit; one that changes nothing makes no event, as in the real server."""
        before = self.get(resource, namespace, name)
        after = copy.deepcopy(before)
        edit(after)
        if after == before:
            return before
        self._put((resource, namespace, name), "MODIFIED", before, after)
        metadata = after["metadata"]
        is_let_go = metadata.get("deletionGracePeriodSeconds", 0) == 0 and not metadata.get("finalizers")
        if metadata.get("deletionTimestamp") and is_let_go:
            self.remove(resource, namespace, name)
        return after

    def remove(self, resource: Resource, namespace: str, name: str) -> None:
        """Take it out at once, whatever its finalizers say."""
        before = self.get(resource, namespace, name)
        self.version += 1
        last = copy.deepcopy(before)
        last["metadata"]["resourceVersion"] = str(self.version)
        del self._objects[resource, namespace, name]
        self._tell(Event(self.version, resource, "DELETED", before, last))

    def _put(self, key: tuple[Resource, str, str], kind: str, before: Object | None, after: Object) -> None:
        self.version += 1
        after["metadata"]["resourceVersion"] = str(self.version)
        self._objects[key] = after
        self._tell(Event(self.version, key[0], kind, before, copy.deepcopy(after)))

    def _tell(self, event: Event) -> None:
        self._events.append(event)
        for listener in list(self._listeners):
            listener(event)
