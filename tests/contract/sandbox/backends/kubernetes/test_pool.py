"""The pool of warm pods: filled, shared, trimmed, renewed, left."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.contract.sandbox.backends.kubernetes.conftest import MakeBackend
from tests.contract.sandbox.backends.kubernetes.grounds import IMAGE, client, eventually, settings
from tests.services.kubernetes import Cluster, Image, resources
from tests.services.kubernetes.cluster import NAMESPACE
from trainyard.sandbox.backends.kubernetes import KubernetesBackend

_ROOT = Path(__file__).resolve().parents[5]
_PYTHON = str(Path(sys.executable).resolve())
_DOOMED = "tests.contract.sandbox.backends.kubernetes.doomed_server"


def ready(cluster: Cluster, **labels: str) -> int:
    return sum(map(cluster.is_ready, cluster.pods(**labels)))


async def test_two_servers_share_one_pool(make_backend: MakeBackend, cluster: Cluster) -> None:
    await make_backend(warm=3)
    second = await make_backend(warm=3)
    await eventually(lambda: ready(cluster, state="warm") == 3)
    await asyncio.sleep(0.5)
    assert len(cluster.pods()) == 3
    assert len(second.running()) == 3


async def test_a_surplus_is_deleted(make_backend: MakeBackend, cluster: Cluster) -> None:
    await make_backend(warm=1)
    await eventually(lambda: ready(cluster, state="warm") == 1)
    [first] = cluster.pods()
    extra = {**first, "metadata": {**first["metadata"], "name": "zz"}, "status": {"phase": "Pending"}}
    cluster.apply(extra)
    assert len(cluster.pods()) == 2
    await eventually(lambda: [pod["metadata"]["name"] for pod in cluster.pods()] == [first["metadata"]["name"]])


async def test_pods_of_other_settings_are_not_handed_out_and_go_with_their_last_server(
    make_backend: MakeBackend, cluster: Cluster
) -> None:
    old = await make_backend(warm=1)
    await eventually(lambda: ready(cluster, state="warm") == 1)
    [theirs] = cluster.pods()
    new = await make_backend(warm=1, cpu=0.5)
    await eventually(lambda: ready(cluster, state="warm") == 2)
    box = await new.take("lean", "tenant")
    assert box.id != theirs["metadata"]["name"]
    await asyncio.sleep(1.5)  # longer than a lease
    assert theirs["metadata"]["name"] in {pod["metadata"]["name"] for pod in cluster.pods()}
    await old.aclose()
    await eventually(lambda: theirs["metadata"]["name"] not in {pod["metadata"]["name"] for pod in cluster.pods()})


async def test_the_last_server_takes_the_pool_along_and_no_other_does(
    make_backend: MakeBackend, cluster: Cluster
) -> None:
    first, second = await make_backend(warm=2), await make_backend(warm=2)
    await eventually(lambda: ready(cluster, state="warm") == 2)
    await eventually(lambda: len(cluster.leases()) == 2)
    await asyncio.sleep(0.5)  # each has seen the other
    await first.aclose()
    assert ready(cluster, state="warm") == 2
    await second.aclose()
    await eventually(lambda: not cluster.pods())
    assert not cluster.leases()


async def test_a_server_that_is_killed_leaves_pods_that_others_delete(
    make_backend: MakeBackend, cluster: Cluster
) -> None:
    process = subprocess.Popen(  # noqa: ASYNC220 - it works while this waits for its line
        [sys.executable, "-m", _DOOMED, cluster.url, cluster.access.token],
        stdout=subprocess.PIPE,
        cwd=_ROOT,
    )
    assert process.stdout is not None
    try:
        assert await asyncio.to_thread(process.stdout.readline) == b"holding 2\n"
        await eventually(lambda: len(cluster.pods(state="claimed")) == 2)  # a job that came too late is deleted
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    # Runners end with their server, whoever looks; the warm pod that it has made waits for somebody to look.
    await eventually(lambda: [pod["status"]["phase"] for pod in cluster.pods(state="claimed")] == ["Succeeded"] * 2)
    await make_backend()
    await eventually(lambda: not cluster.pods() and not cluster.jobs(), 10)


async def test_a_pod_that_was_claimed_and_never_connected_goes_with_its_dead_server(
    make_backend: MakeBackend, cluster: Cluster
) -> None:
    maker = await make_backend(warm=1)
    await eventually(lambda: ready(cluster) == 1)
    [pod] = cluster.pods()
    name = pod["metadata"]["name"]
    labels = {"trainyard.dev/state": "claimed", "trainyard.dev/holder": "a-server-that-died"}
    cluster.store.change(resources.PODS, NAMESPACE, name, lambda each: each["metadata"]["labels"].update(labels))
    await eventually(lambda: name not in {each["metadata"]["name"] for each in cluster.pods()}, 10)
    await maker.ping()


async def test_pods_that_end_at_once_are_made_less_and_less_often(make_backend: MakeBackend, cluster: Cluster) -> None:
    cluster.kubelet.images[IMAGE] = Image((_PYTHON, "-c", "raise SystemExit(3)"))
    began = time.monotonic()
    backend = await make_backend(warm=1)
    for made in range(2, 5):
        await eventually(lambda made=made: cluster.api.seen.count(("create", "pods", "")) >= made)  # type: ignore[misc]
        assert time.monotonic() - began >= 0.5 * (2 ** (made - 1) - 1)  # after 0, 0.5, 1.5 and 3.5 s
    with pytest.raises(Exception, match="exit status 3"):
        await backend.ping()


async def test_a_pool_beyond_the_quota_says_so(make_backend: MakeBackend, cluster: Cluster) -> None:
    quota = {"kind": "ResourceQuota", "metadata": {"name": "small"}, "spec": {"hard": {"pods": "0"}}}
    cluster.apply(quota)
    backend = KubernetesBackend(settings(warm=1), client(cluster))
    await backend.start()
    try:
        await eventually(lambda: ("create", "pods", "") in cluster.api.seen)
        await asyncio.sleep(0.1)
        with pytest.raises(Exception, match="exceeded quota: small"):
            await backend.ping()
    finally:
        await backend.aclose()
