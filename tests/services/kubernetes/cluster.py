"""The parts of a cluster together."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from tests.services.kubernetes import resources
from tests.services.kubernetes.access import Access, Rule
from tests.services.kubernetes.api import ApiServer
from tests.services.kubernetes.containers import Image
from tests.services.kubernetes.controllers import JobController
from tests.services.kubernetes.kubelet import Kubelet
from tests.services.kubernetes.store import Object, Store

NAMESPACE = "trainyard-sandbox"


class Cluster:
    """An API server on a loopback port, a job controller and a kubelet; the server can go away and come back."""

    def __init__(self, rules: Iterable[Rule], images: Mapping[str, Image]) -> None:
        self.store = Store()
        self.access = Access(rules, NAMESPACE)
        self.api = ApiServer(self.store, self.access)
        self.faults = self.api.faults
        self.kubelet = Kubelet(self.store, images)
        self._jobs = JobController(self.store)
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen, on the port of before if there was one."""
        self._runner = web.AppRunner(self.api.application(), access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Go away: connections break, pods run on."""
        self.api.break_watches()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def aclose(self) -> None:
        await self.stop()
        await self._jobs.aclose()
        await self.kubelet.aclose()

    def apply(self, *manifests: Object) -> None:
        """Store objects as an administrator does, without looking at them."""
        for manifest in manifests:
            kinds = (each for each in resources.ALL if each.kind == manifest["kind"])
            for resource in kinds:  # none for what this server does not have, such as a Deployment
                namespace = manifest["metadata"].get("namespace", NAMESPACE) if resource.is_namespaced else ""
                self.store.create(resource, namespace, manifest)

    def pods(self, **labels: str) -> list[Object]:
        """Those there are, by labels (`_` stands for `-`)."""
        wanted = {f"trainyard.dev/{key.replace('_', '-')}": value for key, value in labels.items()}
        found = self.store.every(resources.PODS, NAMESPACE)
        return [pod for pod in found if wanted.items() <= (pod["metadata"].get("labels") or {}).items()]

    def jobs(self) -> list[Object]:
        return list(self.store.every(resources.JOBS, NAMESPACE))

    def leases(self) -> list[Object]:
        return list(self.store.every(resources.LEASES, NAMESPACE))

    def is_ready(self, pod: Object) -> bool:
        return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", []))


@asynccontextmanager
async def running(rules: Iterable[Rule], images: Mapping[str, Image], *manifests: Any) -> AsyncIterator[Cluster]:
    """A cluster with these objects, until the block ends."""
    cluster = Cluster(rules, images)
    cluster.apply(*(manifests or ({"kind": "Namespace", "metadata": {"name": NAMESPACE}},)))
    await cluster.start()
    try:
        yield cluster
    finally:
        await cluster.aclose()
