"""A cluster for every test, and the servers that it starts over it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.contract.sandbox.backends.kubernetes import grounds
from tests.services.kubernetes import Cluster
from trainyard.core.settings import SandboxSettings
from trainyard.sandbox.backends.kubernetes import KubernetesBackend

MakeBackend = Callable[..., Awaitable[KubernetesBackend]]


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with grounds.cluster() as made:
        yield made


@pytest.fixture
async def make_backend(cluster: Cluster) -> AsyncIterator[MakeBackend]:
    """Backends over the cluster, started, and closed at the end."""
    async with AsyncExitStack() as at_the_end:

        async def make(chosen: SandboxSettings | None = None, **options: Any) -> KubernetesBackend:
            backend = KubernetesBackend(chosen or grounds.settings(**options), grounds.client(cluster))
            await backend.start()
            at_the_end.push_async_callback(backend.aclose)
            return backend

        yield make
