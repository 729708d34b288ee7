"""A fake cluster with the Role, the quota and the policy of deploy/kubernetes, and real runners in its pods."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.services.kubernetes import Cluster
from tests.services.kubernetes.cluster import NAMESPACE, running
from tests.services.kubernetes.runner_image import runner
from trainyard.core.settings import SandboxKubernetes, SandboxSettings
from trainyard.sandbox.backends.kubernetes import KubernetesBackend
from trainyard.sandbox.backends.kubernetes.access import Access
from trainyard.sandbox.backends.kubernetes.api import Api

DEPLOY = Path(__file__).resolve().parents[5] / "deploy" / "kubernetes"
IMAGE = "trainyard-runner:lean"


def manifests() -> list[dict[str, Any]]:
    return [each for path in sorted(DEPLOY.glob("*.yaml")) for each in yaml.safe_load_all(path.read_text())]


@asynccontextmanager
async def cluster() -> AsyncIterator[Cluster]:
    """Pods run the runner of this checkout; the server may do what its Role says."""
    applied = manifests()
    rules = [rule for each in applied if each["kind"] in ("Role", "ClusterRole") for rule in each["rules"]]
    async with running(rules, {IMAGE: runner(), "trainyard-runner:science": runner("numpy")}, *applied) as made:
        yield made


def settings(*, warm: int = 0, **ours: Any) -> SandboxSettings:
    """Few and quick: a server is dead after a second of silence."""
    kubernetes = SandboxKubernetes(**{"lease_s": 1, "ready_s": 20, "namespace": NAMESPACE, **ours})
    return SandboxSettings(backend="kubernetes", warm=warm, warm_science=0, kubernetes=kubernetes)


def client(cluster: Cluster, *, token: str | None = None) -> Api:
    return Api(Access(cluster.url, token=token or cluster.access.token), NAMESPACE, first_wait_s=0.02)


@asynccontextmanager
async def backend() -> AsyncIterator[KubernetesBackend]:
    """One over a cluster of its own, with warm pods."""
    async with cluster() as made:
        started = KubernetesBackend(settings(warm=3, ready_s=60), client(made))
        await started.start()
        try:
            yield started
        finally:
            await started.aclose()


async def eventually(look: Callable[[], bool], timeout_s: float = 20) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(timeout_s):
        while not look():  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(0.02)
