"""The pods of an installation as the API server tells them, kept up to date by one watch."""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import structlog

from trainyard.sandbox.backends.kubernetes import api, names
from trainyard.sandbox.backends.kubernetes.api import Api, ApiError

_log = structlog.get_logger("sandbox")
_T = TypeVar("_T")

_FIRST_WAIT_S: Final = 0.2
_HOPELESS: Final = frozenset(
    {"ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "RunContainerError"}
)
"""Reasons of a waiting container that time alone does not cure."""


@dataclass(frozen=True, slots=True)
class Pod:
    """What matters of one pod.

    Attributes:
        version: Its resourceVersion.
        ip: Empty until it has one.
        trouble: Why it is not ready; empty when it is, or when nothing is said.
        is_hopeless: Whether that will not pass by itself.
        is_over: Whether it has ended, or is about to.
        is_deleted: Whether somebody has asked for its end.
    """

    name: str
    uid: str
    version: str
    labels: Mapping[str, str]
    token: str
    ip: str
    made_at: str
    is_ready: bool
    is_over: bool
    is_deleted: bool
    trouble: str
    is_hopeless: bool

    @property
    def job(self) -> str:
        """Of which it is; empty for a pod by itself."""
        return self.labels.get(names.JOB, "")

    @property
    def is_warm(self) -> bool:
        """Whether nobody has claimed it."""
        return self.labels.get(names.STATE) == names.WARM


def read(found: Mapping[str, Any]) -> Pod:
    """Read a pod of the API."""
    metadata, status = found["metadata"], found.get("status") or {}
    conditions = {each["type"]: each for each in status.get("conditions") or ()}
    is_deleted = "deletionTimestamp" in metadata
    is_over = is_deleted or status.get("phase") in ("Succeeded", "Failed")
    is_ready = conditions.get("Ready", {}).get("status") == "True" and bool(status.get("podIP")) and not is_over
    trouble, is_hopeless = ("", False) if is_ready else _trouble(status, conditions)
    return Pod(
        metadata["name"],
        metadata["uid"],
        metadata["resourceVersion"],
        metadata.get("labels") or {},
        (metadata.get("annotations") or {}).get(names.TOKEN, ""),
        status.get("podIP", ""),
        metadata.get("creationTimestamp", ""),
        is_ready,
        is_over,
        is_deleted,
        trouble,
        is_hopeless,
    )


def _trouble(status: Mapping[str, Any], conditions: Mapping[str, Mapping[str, Any]]) -> tuple[str, bool]:
    """Tell what keeps a pod from being ready, and whether that will not pass."""
    for container in status.get("containerStatuses") or ():
        state = container.get("state") or {}
        if waiting := state.get("waiting"):
            reason = waiting.get("reason", "")
            return _joined(reason, waiting.get("message", "")), reason in _HOPELESS
        if ended := state.get("terminated"):
            return f"its process ended with exit status {ended.get('exitCode')} ({ended.get('reason', '')})", True
    placed = conditions.get("PodScheduled", {})
    if placed.get("status") == "False":
        return _joined(placed.get("reason", ""), placed.get("message", "")), False
    return _joined(status.get("reason", ""), status.get("message", "")), status.get("phase") == "Failed"


def _joined(reason: str, message: str) -> str:
    return ": ".join(filter(None, (reason, message)))


class Pods:
    """Lists, then watches; lists anew when the past is forgotten (410), and goes on after everything else.

    Attributes:
        by_name: Those there are.
        failure: Why they are not up to date; None when they are.
    """

    def __init__(self, client: Api, selector: str, *, first_wait_s: float = _FIRST_WAIT_S) -> None:
        self._api, self._selector, self._first_wait_s = client, selector, first_wait_s
        self.by_name: dict[str, Pod] = {}
        self.failure: ApiError | None = None
        self._changed = asyncio.Event()
        self._version, self._attempts = "", 0

    async def refresh(self) -> None:
        """List, and let the next watch begin there. Raises ApiError."""
        listed = await self._api.list(api.PODS, self._selector)
        self.by_name = {pod.name: pod for pod in map(read, listed.items)}
        self._version = listed.version
        self._is_well()
        self._tell()

    async def follow(self) -> None:
        """Watch for ever."""
        while True:
            try:
                if not self._version:
                    await self.refresh()
                await self._watch()
            except ApiError as error:
                if error.status == 410:
                    self._version = ""
                else:
                    self._is_ill(error)
                await asyncio.sleep(api.wait_s(self._attempts, self._first_wait_s, error.retry_after_s))
                self._attempts += 1
            else:
                # The server has ended it, as it does every few minutes.
                await asyncio.sleep(api.wait_s(self._attempts, self._first_wait_s))

    async def _watch(self) -> None:
        async for event in self._api.watch(api.PODS, self._selector, self._version):
            self._is_well()
            self._attempts = 0
            self._version = event["object"]["metadata"]["resourceVersion"]
            if event["type"] == "BOOKMARK":
                continue
            pod = read(event["object"])
            if event["type"] == "DELETED":
                self.by_name.pop(pod.name, None)
            else:
                self.by_name[pod.name] = pod
            self._tell()

    def _is_ill(self, error: ApiError) -> None:
        if self.failure is None:
            _log.warning("pods_not_watched", why=error.text)
        self.failure = error
        self._tell()

    def _is_well(self) -> None:
        if self.failure is not None:
            _log.info("pods_watched_again")
        self.failure = None

    def take_in(self, pod: Pod) -> Pod:
        """Note what a request has done, before the watch tells the same."""
        self.by_name[pod.name] = pod
        return pod

    async def changes(self, timeout_s: float) -> None:
        """Return at the next change, or when so long nothing has changed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()

    def wake(self) -> None:
        """Let everybody look again who waits for a change."""
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, look: Callable[[], _T | None], deadline: float) -> _T | None:
        """Look now and after every change; gives what is found, or None at the deadline (monotonic)."""
        while (found := look()) is None:
            if (left_s := deadline - time.monotonic()) <= 0:
                return None
            await self.changes(left_s)
        return found
