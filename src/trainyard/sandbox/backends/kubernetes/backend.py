"""Boxes as pods of a cluster."""

import asyncio
import os
import re
import secrets
import socket
import time
from collections.abc import Sequence
from typing import Final

import structlog

from trainyard.core import errors
from trainyard.core.settings import SandboxSettings
from trainyard.sandbox.backends.base import Layer, Running
from trainyard.sandbox.backends.box import RunnerBox
from trainyard.sandbox.backends.kubernetes import access, dialing, layers, names
from trainyard.sandbox.backends.kubernetes.api import Api, ApiError
from trainyard.sandbox.backends.kubernetes.claiming import Claims, unavailable
from trainyard.sandbox.backends.kubernetes.leases import Leases
from trainyard.sandbox.backends.kubernetes.manifests import Manifests
from trainyard.sandbox.backends.kubernetes.pods import Pod, Pods
from trainyard.sandbox.backends.kubernetes.tending import Tending
from trainyard.sandbox.types.orders import Flavor

_log = structlog.get_logger("sandbox")

_RENEWALS: Final = 3
"""Times that a lease is renewed before it would be taken for abandoned."""

_AT_THE_END_S: Final = 10.0
"""For deleting pods at shutdown; what is left then, other servers delete."""


class KubernetesBackend:
    """Implements `Backend`.

    Warm pods belong to the installation and are shared by its servers; a claimed one belongs to one server, is used
    for one box, and is deleted. Where none is ready, a job is made.

    Args:
        client: To the API server; made from the settings when left out.

    Raises:
        errors.ConfigError: The settings cannot be used.
    """

    name = "kubernetes"
    is_elsewhere = True

    def __init__(self, settings: SandboxSettings, client: Api | None = None) -> None:
        self._settings, self._ours = settings, settings.kubernetes
        self._manifests = Manifests(settings)
        self._api = client or Api(access.find(self._ours.kubeconfig, self._ours.context), self._ours.namespace)
        self._pods = Pods(self._api, self._manifests.selector)
        labels = {names.INSTALLATION: self._ours.installation, names.GENERATION: self._manifests.generation}
        self._leases = Leases(self._api, _lease_name(self._ours.installation), labels, self._ours.lease_s)
        self._tending = Tending(self._api, self._pods, self._leases, self._manifests)
        self._claims = Claims(self._api, self._pods, self._tending, self._manifests, self._leases.name)
        self._boxes: dict[str, RunnerBox] = {}
        self._layers: Sequence[Layer] = ()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Look at the cluster, then keep pods ready; see `Backend.start`."""
        some_pod = self._manifests.pod(self._manifests.images["lean"])
        try:
            self._layers = await layers.survey(self._api, self._settings, some_pod["metadata"]["labels"])
            await self._leases.renew()
            await self._pods.refresh()
        except ApiError as error:
            await self._api.aclose()
            raise errors.StartupError(f"sandbox.backend kubernetes: {error.text}") from error
        missing = [layer for layer in self._layers if layer.is_required and not layer.is_held]
        if missing and not self._settings.allow_weaker:
            await self.aclose()
            why = "; ".join(f"{layer.name}: {layer.detail}" for layer in missing)
            raise errors.StartupError(f"the cluster does not isolate boxes: {why} (or set sandbox.allow_weaker)")
        self._tasks = [asyncio.create_task(self._pods.follow()), asyncio.create_task(self._tend())]

    async def take(self, flavor: Flavor, tenant: str) -> RunnerBox:
        """Give a fresh box; see `Backend.take`. The cluster is not told for which tenant."""
        if len(self._claims) >= self._settings.max_boxes:
            raise unavailable(f"all {self._settings.max_boxes} boxes of this server are taken (sandbox.max_boxes)")
        image = self._manifests.images[flavor]
        deadline = time.monotonic() + self._ours.ready_s
        while True:
            pod = await self._claims.get(image, deadline)
            try:
                return await self._open(pod)
            except dialing.NotReached as error:
                _log.warning("pod_not_reached", pod=pod.name, why=str(error))
                if time.monotonic() > deadline:
                    raise unavailable(f"the runner of a ready pod is not reached: {error}") from error

    async def _open(self, pod: Pod) -> RunnerBox:
        held = pod.job or pod.name

        async def end() -> None:
            self._boxes.pop(held, None)
            self._claims.release(held)

        try:
            connection = await dialing.dial(pod.ip, self._ours.port, pod.token)
            box = await RunnerBox.connect(connection, pod.name, end)
        except BaseException:
            self._claims.release(held)
            raise
        self._boxes[held] = box
        return box

    async def ping(self) -> None:
        """Return when boxes can be had; see `Backend.ping`."""
        if not self._tasks:
            raise unavailable("the backend has not been started")
        for task in self._tasks:
            if task.done():
                raise unavailable(f"nothing tends the pods any more: {task.exception()!r}")
        if self._pods.failure is not None:
            raise unavailable(self._pods.failure.text)
        for stock in self._tending.stocks.values():
            if stock.failure and not any(pod.is_ready for pod in self._tending.warm(stock.image.flavor)):
                raise unavailable(f"no warm pod of {stock.image.flavor}: {stock.failure}")

    def layers(self) -> Sequence[Layer]:
        """Tell what the cluster said when this server started."""
        return self._layers

    def running(self) -> Sequence[Running]:
        """List the boxes of this server, and the warm pods that it shares."""
        return [
            Running(pod.name, None, _flavor(pod), not pod.is_warm)
            for pod in self._pods.by_name.values()
            if not pod.is_over and (pod.is_warm or self._claims.holds(pod.job or pod.name))
        ]

    async def aclose(self) -> None:
        """End every box; warm pods stay only for another server with the same settings."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        for box in list(self._boxes.values()):
            await box.close()
        try:
            async with asyncio.timeout(_AT_THE_END_S):
                await self._leave()
        except (ApiError, TimeoutError) as error:
            _log.warning("pods_left_behind", why=str(error) or "the API server is too slow")
        await self._api.aclose()

    async def _leave(self) -> None:
        await self._leases.renew()  # who is left may have changed
        await self._pods.refresh()
        is_last = self._leases.living(self._manifests.generation) == [self._leases.name]
        for pod in list(self._pods.by_name.values()):
            is_ours = pod.labels.get(names.HOLDER) == self._leases.name
            is_warm = pod.is_warm and pod.labels.get(names.GENERATION) == self._manifests.generation
            if not pod.is_deleted and (is_ours or (is_warm and is_last)):
                await self._tending.remove(pod)
        await self._tending.remove_orphaned_jobs(lambda name: False)
        await self._leases.give_up()

    async def _tend(self) -> None:
        """Renew the lease in time, and go round after every change."""
        pause_s = self._ours.lease_s / _RENEWALS
        renewed, failures = 0.0, 0
        while True:
            try:
                if time.monotonic() - renewed >= pause_s:
                    await self._leases.renew()
                    renewed = time.monotonic()
                    await self._tending.remove_orphaned_jobs(self._claims.holds)
                await self._end_lost()
                await self._tending.round(self._claims.holds)
                failures = 0
            except ApiError as error:
                failures += 1
                if failures == 1:
                    _log.warning("pods_not_tended", why=error.text)
                await asyncio.sleep(min(pause_s, 0.2 * 2 ** min(failures, 6)))
            await self._pods.changes(min(pause_s, 1.0))

    async def _end_lost(self) -> None:
        """Close boxes whose pods have ended or are gone, which a dead node would not tell for half a minute."""
        if self._pods.failure is not None:
            return
        alive = {pod.job or pod.name for pod in self._pods.by_name.values() if not pod.is_over}
        for name, box in list(self._boxes.items()):
            if name not in alive:
                await box.close()


def _flavor(pod: Pod) -> Flavor:
    return "science" if pod.labels.get(names.FLAVOR) == "science" else "lean"


def _lease_name(installation: str) -> str:
    """Name this server: where it runs, and by chance, since one machine may run several."""
    host = re.sub(r"[^a-z0-9]+", "-", socket.gethostname().lower()).strip("-")[:20]
    return f"{installation}-{host or 'server'}-{os.getpid()}-{secrets.token_hex(3)}"
