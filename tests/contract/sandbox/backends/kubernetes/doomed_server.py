"""A server that takes two boxes, one warm and one of a job, and waits to be killed: `doomed_server.py URL TOKEN`."""

import asyncio
import sys

from tests.services.kubernetes.cluster import NAMESPACE
from trainyard.core.settings import SandboxKubernetes, SandboxSettings
from trainyard.sandbox.backends.kubernetes import KubernetesBackend
from trainyard.sandbox.backends.kubernetes.access import Access
from trainyard.sandbox.backends.kubernetes.api import Api


async def hold(url: str, token: str) -> None:
    kubernetes = SandboxKubernetes(lease_s=1, namespace=NAMESPACE)
    settings = SandboxSettings(backend="kubernetes", warm=1, warm_science=0, kubernetes=kubernetes)
    backend = KubernetesBackend(settings, Api(Access(url, token=token), NAMESPACE))
    await backend.start()
    while not any(not each.is_taken for each in backend.running()):  # noqa: ASYNC110 - no event tells it
        await asyncio.sleep(0.05)
    boxes = [await backend.take("lean", "tenant"), await backend.take("lean", "tenant")]
    sys.stdout.write(f"holding {len(boxes)}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


asyncio.run(hold(sys.argv[1], sys.argv[2]))
