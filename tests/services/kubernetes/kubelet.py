"""A node: starts a real process for every pod, on a loopback address of its own, and reports what becomes of it."""

import asyncio
import random
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from tests.services.kubernetes import admission, containers, resources
from tests.services.kubernetes.answers import Refused
from tests.services.kubernetes.containers import Container, Image
from tests.services.kubernetes.store import Event, Object, Store, now

_PROBE_S = 0.02


class Kubelet:
    """Runs pods until they end, are deleted, evicted or too old.

    Attributes:
        images: What can be pulled, by reference.
        room: Pods that fit on the node; more stay pending as unschedulable.
    """

    def __init__(self, store: Store, images: Mapping[str, Image]) -> None:
        self._store, self.images = store, dict(images)
        self.room = 1000
        self._net = f"127.{random.randint(1, 254)}.{random.randint(0, 254)}"
        self._used = 0
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._containers: dict[str, Container] = {}
        self._stop = store.listen(self._see)

    def _see(self, event: Event) -> None:
        if event.resource != resources.PODS:
            return
        metadata = event.after["metadata"]
        uid = metadata["uid"]
        if event.kind == "ADDED":
            self._tasks[uid] = asyncio.ensure_future(self._run(metadata["namespace"], metadata["name"], uid))
        elif event.kind == "MODIFIED" and metadata.get("deletionTimestamp") and uid in self._containers:
            self._containers[uid].begin_to_end(metadata["deletionGracePeriodSeconds"])
        elif event.kind == "DELETED":
            self.kill(uid)

    def container(self, name: str) -> Container:
        """The running process of a pod."""
        return next(each for each in self._containers.values() if each.pod_name == name)

    @property
    def running(self) -> int:
        """Processes that have not ended."""
        return len(self._containers)

    def kill(self, uid: str) -> None:
        if uid in self._containers:
            self._containers[uid].kill()

    async def aclose(self) -> None:
        """Kill every process and wait for them."""
        self._stop()
        for task in self._tasks.values():
            task.cancel()
        for container in list(self._containers.values()):
            container.kill()
            await container.ended()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def evict(self, namespace: str, name: str) -> None:
        """End a pod as a node does that runs out of memory."""
        uid = self._store.get(resources.PODS, namespace, name)["metadata"]["uid"]
        why = "The node was low on resource: memory."
        self._report(namespace, name, {"phase": "Failed", "reason": "Evicted", "message": why})
        self.kill(uid)
        await asyncio.wait([self._tasks[uid]])

    async def _run(self, namespace: str, name: str, uid: str) -> None:
        try:
            pod = self._store.get(resources.PODS, namespace, name)
            if not await self._placed(namespace, name):
                return
            image = self.images.get(pod["spec"]["containers"][0]["image"])
            if image is None:
                await self._cannot_pull(namespace, name, pod["spec"]["containers"][0]["image"])
                return
            await self._live(namespace, name, uid, image)
        except Refused:
            pass  # deleted meanwhile
        finally:
            self._containers.pop(uid, None)
            self._forget(namespace, name, uid)

    async def _placed(self, namespace: str, name: str) -> bool:
        """Bind it to the node, or say why not; waits until there is room."""
        while True:
            others = sum(
                bool(each["spec"].get("nodeName")) and not admission.is_over(each)
                for each in self._store.every(resources.PODS)
            )
            if others < self.room:
                break
            why = "0/1 nodes are available: 1 Too many pods."
            self._report(namespace, name, {"conditions": [_condition("PodScheduled", "False", "Unschedulable", why)]})
            await asyncio.sleep(0.05)
        self._store.change(resources.PODS, namespace, name, lambda each: each["spec"].update(nodeName="node-1"))
        return True

    async def _cannot_pull(self, namespace: str, name: str, image: str) -> None:
        for reason in ("ErrImagePull", "ImagePullBackOff"):
            why = f'Back-off pulling image "{image}": not found'
            state = {"name": "box", "ready": False, "state": {"waiting": {"reason": reason, "message": why}}}
            self._report(namespace, name, {"containerStatuses": [state]})
            await asyncio.sleep(0.02)
        pod = self._store.get(resources.PODS, namespace, name)
        while not pod["metadata"].get("deletionTimestamp"):
            await asyncio.sleep(0.02)
            pod = self._store.get(resources.PODS, namespace, name)

    async def _live(self, namespace: str, name: str, uid: str, image: Image) -> None:
        self._used += 1
        address = f"{self._net}.{self._used}" if self._used < 255 else self._next_net()
        pod = self._store.get(resources.PODS, namespace, name)
        if pod["metadata"].get("deletionTimestamp"):
            return
        container = await containers.start(pod, image, address)
        self._containers[uid] = container
        self._report(namespace, name, {"phase": "Running", "podIP": address, "startTime": now(), **_state(False)})
        deadline_s = pod["spec"].get("activeDeadlineSeconds")
        probing = asyncio.ensure_future(self._probe(namespace, name, pod, address))
        try:
            async with asyncio.timeout(deadline_s):
                await container.ended()
        except TimeoutError:
            container.kill()
            await container.ended()
            self._report(namespace, name, {"phase": "Failed", "reason": "DeadlineExceeded"})
        finally:
            probing.cancel()
            with suppress(asyncio.CancelledError):
                await probing
        self._over(namespace, name, container.code)

    def _next_net(self) -> str:
        parts = self._net.split(".")
        self._net = f"127.{parts[1]}.{(int(parts[2]) + 1) % 255}"
        self._used = 1
        return f"{self._net}.1"

    async def _probe(self, namespace: str, name: str, pod: Object, address: str) -> None:
        """Connect and go away again, as the startup probe of the pod asks; then it is ready."""
        probe = pod["spec"]["containers"][0].get("startupProbe")
        while probe is not None:
            try:
                _, writer = await asyncio.open_connection(address, probe["tcpSocket"]["port"])
            except OSError:
                await asyncio.sleep(_PROBE_S)
                continue
            writer.transport.abort()
            break
        self._report(namespace, name, _state(True))

    def _over(self, namespace: str, name: str, code: int) -> None:
        with suppress(Refused):
            if admission.is_over(self._store.get(resources.PODS, namespace, name)):
                return
            reason = "Completed" if code == 0 else "Error"
            ended = {"terminated": {"exitCode": code, "reason": reason, "finishedAt": now()}}
            status = {"name": "box", "ready": False, "state": ended}
            conditions = [_condition("Ready", "False", "PodCompleted", "")]
            phase = "Succeeded" if code == 0 else "Failed"
            self._report(namespace, name, {"phase": phase, "containerStatuses": [status], "conditions": conditions})

    def _forget(self, namespace: str, name: str, uid: str) -> None:
        """Nothing runs any more: let a pod go that was only waiting for that."""
        with suppress(Refused):
            metadata = self._store.get(resources.PODS, namespace, name)["metadata"]
            if metadata["uid"] == uid and metadata.get("deletionTimestamp"):
                self._store.change(
                    resources.PODS, namespace, name, lambda each: each["metadata"].update(deletionGracePeriodSeconds=0)
                )

    def _report(self, namespace: str, name: str, status: dict[str, Any]) -> None:
        self._store.change(resources.PODS, namespace, name, lambda each: each["status"].update(status))


def _condition(kind: str, status: str, reason: str = "", message: str = "") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now()}


def _state(is_ready: bool) -> dict[str, Any]:
    container = {"name": "box", "ready": is_ready, "state": {"running": {"startedAt": now()}}}
    return {"containerStatuses": [container], "conditions": [_condition("Ready", str(is_ready))]}
