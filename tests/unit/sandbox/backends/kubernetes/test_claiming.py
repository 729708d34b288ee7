"""Which pod a box gets, where several want one at once."""

import asyncio
import time
from typing import Any

import pytest

from trainyard.core import errors
from trainyard.core.settings import SandboxKubernetes, SandboxSettings
from trainyard.sandbox.backends.kubernetes import names
from trainyard.sandbox.backends.kubernetes.api import ApiError, Kind
from trainyard.sandbox.backends.kubernetes.claiming import Claims
from trainyard.sandbox.backends.kubernetes.leases import Leases
from trainyard.sandbox.backends.kubernetes.manifests import Manifests
from trainyard.sandbox.backends.kubernetes.pods import Pods, read
from trainyard.sandbox.backends.kubernetes.tending import Tending


class Cluster:
    """Answers the first two claims when the test says so, and refuses those after them as too late."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, asyncio.Future[dict[str, Any]]]] = []
        self.are_asked = asyncio.Event()

    async def patch(self, kind: Kind, name: str, change: dict[str, Any]) -> dict[str, Any]:
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.asked.append((name, answer))
        if len(self.asked) > 2:
            raise ApiError(409, "the object has been modified")
        if len(self.asked) == 2:
            self.are_asked.set()
        return await answer

    async def create(self, kind: Kind, made: dict[str, Any]) -> dict[str, Any]:
        raise ApiError(403, "exceeded quota")


def pod(name: str, generation: str, **labels: str) -> dict[str, Any]:
    about = {names.STATE: names.WARM, names.FLAVOR: "lean", names.GENERATION: generation, **labels}
    status = {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
    return {"metadata": {"name": name, "uid": name, "resourceVersion": "1", "labels": about}, "status": status}


def claiming(client: Any) -> tuple[Claims, Manifests, Pods]:
    """Have two ready pods, x and y."""
    manifests = Manifests(SandboxSettings(backend="kubernetes", warm=2, kubernetes=SandboxKubernetes()))
    known = Pods(client, manifests.selector)
    for name in ("x", "y"):
        known.take_in(read(pod(name, manifests.generation)))
    leases = Leases(client, "m", {names.INSTALLATION: "i", names.GENERATION: manifests.generation}, 30)
    return Claims(client, known, Tending(client, known, leases, manifests), manifests, "m"), manifests, known


async def test_a_claim_whose_caller_leaves_is_given_up() -> None:
    client = Cluster()
    claims, manifests, _ = claiming(client)
    taking = asyncio.create_task(claims.get(manifests.images["lean"], time.monotonic()))
    await asyncio.sleep(0)
    assert (len(client.asked), len(claims)) == (1, 1)
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    assert len(claims) == 0  # also where the cluster has done it: tending deletes what is claimed and not held


async def test_a_claim_that_comes_too_late_leaves_alone_what_another_box_of_this_server_is_about_to_have() -> None:
    client = Cluster()
    claims, manifests, known = claiming(client)
    late, early = (asyncio.create_task(claims.get(manifests.images["lean"], time.monotonic())) for _ in range(2))
    await client.are_asked.wait()
    (gone, lost), (name, got) = client.asked
    known.take_in(read(pod(gone, manifests.generation, **{names.STATE: names.CLAIMED, names.HOLDER: "other"})))
    lost.set_exception(ApiError(409, "the object has been modified"))
    with pytest.raises(errors.Unavailable):
        await late
    assert len(client.asked) == 2
    assert claims.holds(name)
    got.set_result(pod(name, manifests.generation, **{names.STATE: names.CLAIMED}))
    assert (await early).name == name
    assert claims.holds(name)
    assert len(claims) == 1
