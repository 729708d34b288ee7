"""Keeping the pool of warm pods full, and the namespace free of what nobody uses."""

import dataclasses
import time
from collections.abc import Callable
from typing import Final

import structlog

from trainyard.sandbox.backends.kubernetes import api, names, pods
from trainyard.sandbox.backends.kubernetes.api import Api, ApiError
from trainyard.sandbox.backends.kubernetes.leases import Leases
from trainyard.sandbox.backends.kubernetes.manifests import Image, Manifests
from trainyard.sandbox.backends.kubernetes.pods import Pod, Pods

_log = structlog.get_logger("sandbox")

_BATCH: Final = 5
"""Pods that one round makes at most, so that a large pool does not arrive at the API server at once."""

_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 60.0

IsHeld = Callable[[str], bool]


class Stock:
    """The warm pods of one flavour.

    Attributes:
        failure: Why the last one could not be made, or ended before it was used; empty when all is well.
    """

    def __init__(self, image: Image) -> None:
        self.image, self.failure = image, ""
        self._pause_s, self._until = 0.0, 0.0

    @property
    def is_paused(self) -> bool:
        """Whether it is too early for the next try."""
        return time.monotonic() < self._until

    def is_well(self) -> None:
        """Note that one is ready."""
        self.failure, self._pause_s = "", 0.0

    def put_off(self, why: str) -> None:
        """Wait before the next try, twice as long each time: a quota or an image does not change within a second."""
        if self.failure != why:
            _log.warning("warm_pods_missing", flavor=self.image.flavor, why=why)
        self.failure = why
        self._pause_s = min(_LONGEST_PAUSE_S, max(_FIRST_PAUSE_S, 2 * self._pause_s))
        self._until = time.monotonic() + self._pause_s


class Tending:
    """One round after the other over what the watch tells.

    Of the living servers with the same settings, the first by name makes pods: it is the same one for all of them
    without an election, and two for a moment do no harm, since a surplus is deleted.

    Attributes:
        stocks: By flavour.
    """

    def __init__(self, client: Api, known: Pods, leases: Leases, manifests: Manifests) -> None:
        self._api, self._pods, self._leases, self._manifests = client, known, leases, manifests
        self.stocks: dict[str, Stock] = {flavor: Stock(image) for flavor, image in manifests.images.items()}

    async def round(self, is_held: IsHeld) -> None:
        """Delete what is over or ownerless, trim, and fill up.

        Args:
            is_held: Whether the pod or job of that name belongs to a box of this server, or is about to.

        Raises:
            ApiError: The API server refuses or does not answer.
        """
        for pod in list(self._pods.by_name.values()):
            if self._is_refuse(pod, is_held):
                await self.remove(pod)
        if self._leases.living(self._manifests.generation)[0] == self._leases.name:
            for stock in self.stocks.values():
                await self._fill(stock)

    async def remove(self, pod: Pod) -> None:
        """Delete a pod, or the job that it is of. Raises ApiError."""
        if pod.job:
            await self._api.delete(api.JOBS, pod.job)
        else:
            await self._api.delete(api.PODS, pod.name, uid=pod.uid)
        if pod.name in self._pods.by_name:
            self._pods.take_in(dataclasses.replace(pod, is_over=True, is_deleted=True, is_ready=False))

    async def remove_orphaned_jobs(self, is_held: IsHeld) -> None:
        """Delete jobs without a server, also those that never got a pod. Raises ApiError."""
        for job in (await self._api.list(api.JOBS, self._manifests.selector)).items:
            metadata = job["metadata"]
            holder = (metadata.get("labels") or {}).get(names.HOLDER, "")
            is_left = holder == self._leases.name and not is_held(metadata["name"])
            if is_left or self._leases.is_dead(holder):
                await self._api.delete(api.JOBS, metadata["name"], uid=metadata["uid"])

    def warm(self, flavor: str) -> list[Pod]:
        """List the pods of a flavour that nobody has claimed, oldest first."""
        found = [
            pod
            for pod in self._pods.by_name.values()
            if pod.is_warm
            and not pod.is_over
            and pod.labels.get(names.FLAVOR) == flavor
            and pod.labels.get(names.GENERATION) == self._manifests.generation
        ]
        return sorted(found, key=lambda pod: (pod.made_at, pod.name))

    def _is_refuse(self, pod: Pod, is_held: IsHeld) -> bool:
        if pod.is_deleted:
            return False
        generation = pod.labels.get(names.GENERATION, "")
        if pod.is_warm and not pod.is_over:
            return generation != self._manifests.generation and self._leases.is_abandoned(generation)
        if pod.is_warm:
            if generation == self._manifests.generation and (
                stock := self.stocks.get(pod.labels.get(names.FLAVOR, ""))
            ):
                stock.put_off(f"a warm pod ended: {pod.trouble or 'no reason is given'}")
            return True
        holder = pod.labels.get(names.HOLDER, "")
        if holder == self._leases.name:
            return not is_held(pod.job or pod.name)
        return pod.is_over or self._leases.is_dead(holder)

    async def _fill(self, stock: Stock) -> None:
        warm = self.warm(stock.image.flavor)
        if any(pod.is_ready for pod in warm):
            stock.is_well()
        elif hopeless := next((pod for pod in warm if pod.is_hopeless), None):
            stock.failure = hopeless.trouble
        for pod in warm[stock.image.warm :]:
            await self._api.delete(api.PODS, pod.name, uid=pod.uid, version=pod.version)
        missing = min(stock.image.warm - len(warm), _BATCH)
        if missing <= 0 or stock.is_paused:
            return
        try:
            for _ in range(missing):
                made = await self._api.create(api.PODS, self._manifests.pod(stock.image))
                if made is not None:
                    self._pods.take_in(pods.read(made))
        except ApiError as error:
            stock.put_off(error.text)
