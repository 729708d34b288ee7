"""What goes wrong between the server and its cluster: each fault, what is said, and what survives."""

import asyncio
import time
from collections.abc import Callable

import pytest

from tests.contract.sandbox.backends.kubernetes.conftest import MakeBackend
from tests.contract.sandbox.backends.kubernetes.grounds import IMAGE, client, eventually, settings
from tests.services.kubernetes import Cluster, resources
from tests.services.kubernetes.answers import expired
from tests.services.kubernetes.cluster import NAMESPACE
from trainyard.core import errors
from trainyard.sandbox.backends.base import Box
from trainyard.sandbox.backends.kubernetes import KubernetesBackend
from trainyard.sandbox.types.orders import Order


async def printed(box: Box, code: str) -> bytes:
    return (await box.run(Order(code=code, timeout_s=20))).stdout


def allow_all_but(cluster: Cluster, verb: str, resource: str) -> None:
    """Take one verb on one resource out of the Role."""
    for rule in cluster.access.rules:
        if resource in rule["resources"]:
            rule["verbs"] = [each for each in rule["verbs"] if each != verb]  # type: ignore[index]


async def test_a_server_does_not_start_without_its_cluster_and_names_the_address(cluster: Cluster) -> None:
    await cluster.stop()
    with pytest.raises(errors.StartupError, match=f"API server {cluster.url} does not answer"):
        await KubernetesBackend(settings(), client(cluster)).start()


async def test_a_token_that_is_not_known_is_told(cluster: Cluster) -> None:
    with pytest.raises(errors.StartupError, match=r"does not know our token \(list networkpolicies: 401\)"):
        await KubernetesBackend(settings(), client(cluster, token="stale")).start()


@pytest.mark.parametrize(
    ("verb", "resource", "named"),
    [
        ("list", "networkpolicies", "networkpolicies.networking.k8s.io"),
        ("patch", "leases", "leases.coordination.k8s.io"),
        ("create", "leases", "leases.coordination.k8s.io"),
        ("list", "leases", "leases.coordination.k8s.io"),
        ("list", "pods", "pods"),
    ],
)
async def test_a_verb_that_the_role_lacks_is_named_at_the_start(
    cluster: Cluster, verb: str, resource: str, named: str
) -> None:
    allow_all_but(cluster, verb, resource)
    with pytest.raises(errors.StartupError, match=f"lacks the verb '{verb}' on '{named}'"):
        await KubernetesBackend(settings(), client(cluster)).start()


@pytest.mark.parametrize(
    ("verb", "resource", "warm", "named"),
    [("create", "jobs", 0, "jobs.batch"), ("patch", "pods", 1, "pods")],
)
async def test_a_verb_that_the_role_lacks_is_named_when_a_box_is_taken(
    make_backend: MakeBackend, cluster: Cluster, verb: str, resource: str, warm: int, named: str
) -> None:
    backend = await make_backend(warm=warm)
    await eventually(lambda: sum(map(cluster.is_ready, cluster.pods())) == warm)
    allow_all_but(cluster, verb, resource)
    with pytest.raises(errors.Unavailable, match=f"lacks the verb '{verb}' on '{named}'") as refused:
        await backend.take("lean", "tenant")
    assert refused.value.code == "sandbox_unavailable"


@pytest.mark.parametrize(
    ("verb", "resource", "named"), [("watch", "pods", "'watch' on 'pods'"), ("create", "pods", "'create' on 'pods'")]
)
async def test_a_verb_that_the_role_lacks_is_named_by_the_readiness(
    make_backend: MakeBackend, cluster: Cluster, verb: str, resource: str, named: str
) -> None:
    allow_all_but(cluster, verb, resource)
    backend = await make_backend(warm=1)
    await eventually(lambda: (verb, resource, "") in cluster.api.seen)
    await asyncio.sleep(0.2)
    with pytest.raises(errors.Unavailable, match=named):
        await backend.ping()


async def test_boxes_go_on_while_the_cluster_is_away_and_new_ones_come_when_it_is_back(
    make_backend: MakeBackend, cluster: Cluster
) -> None:
    backend = await make_backend()
    box = await backend.take("lean", "tenant")
    await cluster.stop()
    assert await printed(box, "x = 1; print(x)") == b"1\n"
    with pytest.raises(errors.Unavailable, match="does not answer"):
        await backend.take("lean", "tenant")
    with pytest.raises(errors.Unavailable, match="does not answer"):
        await backend.ping()
    assert await printed(box, "print(x + 1)") == b"2\n"
    await cluster.start()
    other = await backend.take("lean", "tenant")
    assert await printed(other, "print(3)") == b"3\n"
    assert await printed(box, "print(x + 2)") == b"3\n"
    await eventually(lambda: cluster.api.watches == 1)
    await backend.ping()


async def test_a_box_that_is_closed_while_the_cluster_is_away_is_deleted_later(
    make_backend: MakeBackend, cluster: Cluster
) -> None:
    backend = await make_backend()
    box = await backend.take("lean", "tenant")
    await cluster.stop()
    await box.close()
    assert cluster.pods()
    await cluster.start()
    await eventually(lambda: not cluster.pods() and not cluster.jobs())


@pytest.mark.parametrize("fault", ["too_many", "internal"])
async def test_answers_that_pass_are_asked_for_again(make_backend: MakeBackend, cluster: Cluster, fault: str) -> None:
    backend = await make_backend()
    getattr(cluster.faults, fault)("create", "jobs", times=2)
    began = time.monotonic()
    box = await backend.take("lean", "tenant")
    assert await printed(box, "print(1)") == b"1\n"
    assert cluster.api.seen.count(("create", "jobs", "")) == 3
    if fault == "too_many":
        assert time.monotonic() - began >= 2  # Retry-After: 1, twice


@pytest.mark.parametrize(
    ("fault", "words"),
    [("too_many", r"\(429\): the server has received too many"), ("internal", r"\(500\): etcdserver")],
)
async def test_answers_that_do_not_pass_are_told_after_five_tries(
    make_backend: MakeBackend, cluster: Cluster, fault: str, words: str
) -> None:
    backend = await make_backend()
    arranged = getattr(cluster.faults, fault)("create", "jobs", times=None)
    with pytest.raises(errors.Unavailable, match=words) as refused:
        await backend.take("lean", "tenant")
    assert arranged.met == 5
    assert refused.value.retry_after_s is not None


async def test_a_bid_to_wait_for_longer_than_a_caller_can_is_passed_on(
    make_backend: MakeBackend, cluster: Cluster
) -> None:
    backend = await make_backend()
    arranged = cluster.faults.too_many("create", "jobs", times=None, retry_after_s=60)
    with pytest.raises(errors.Unavailable) as refused:
        await backend.take("lean", "tenant")
    assert (arranged.met, refused.value.retry_after_s) == (1, 60)


async def test_a_pod_that_another_server_is_faster_at_is_not_waited_for(
    make_backend: MakeBackend, cluster: Cluster
) -> None:
    backend = await make_backend(warm=2)
    await eventually(lambda: sum(map(cluster.is_ready, cluster.pods())) == 2)
    arranged = cluster.faults.conflicts("patch", "pods", times=1)
    box = await backend.take("lean", "tenant")
    assert arranged.met == 1
    assert ("create", "jobs", "") not in cluster.api.seen
    assert await printed(box, "print(1)") == b"1\n"


async def test_a_storm_of_conflicts_ends_in_a_job(make_backend: MakeBackend, cluster: Cluster) -> None:
    backend = await make_backend(warm=3)
    await eventually(lambda: sum(map(cluster.is_ready, cluster.pods())) == 3)
    arranged = cluster.faults.conflicts("patch", "pods", times=None)
    box = await backend.take("lean", "tenant")
    assert await printed(box, "print(1)") == b"1\n"
    assert cluster.jobs()
    assert arranged.met < 200  # it waits between its rounds


def by_refusal(cluster: Cluster) -> None:
    cluster.faults.gone(times=1)
    cluster.store.compact()
    cluster.api.break_watches()


def by_event(cluster: Cluster) -> None:
    cluster.api.break_watches(expired(1, 2))


@pytest.mark.parametrize("lose", [by_refusal, by_event])
async def test_a_past_that_is_forgotten_is_listed_anew(
    make_backend: MakeBackend, cluster: Cluster, lose: Callable[[Cluster], None]
) -> None:
    backend = await make_backend(warm=1)
    await eventually(lambda: sum(map(cluster.is_ready, cluster.pods())) == 1)
    await eventually(lambda: cluster.api.watches == 1)
    listed = cluster.api.seen.count(("list", "pods", ""))
    lose(cluster)
    await eventually(lambda: cluster.api.seen.count(("list", "pods", "")) == listed + 1 and cluster.api.watches == 1)
    assert await printed(await backend.take("lean", "tenant"), "print(1)") == b"1\n"


async def test_a_past_that_is_always_forgotten_does_not_make_a_flood(
    make_backend: MakeBackend, cluster: Cluster
) -> None:
    arranged = cluster.faults.gone(times=None)
    await make_backend()
    await asyncio.sleep(2)
    assert 2 <= arranged.met <= 40


async def test_a_watch_that_breaks_goes_on_where_it_was(make_backend: MakeBackend, cluster: Cluster) -> None:
    backend = await make_backend()
    await eventually(lambda: cluster.api.watches == 1)
    listed = cluster.api.seen.count(("list", "pods", ""))
    cluster.api.break_watches()
    assert await printed(await backend.take("lean", "tenant"), "print(1)") == b"1\n"
    assert cluster.api.seen.count(("list", "pods", "")) == listed


async def test_a_pod_that_is_evicted_takes_its_box_along(make_backend: MakeBackend, cluster: Cluster) -> None:
    backend = await make_backend()
    box = await backend.take("lean", "tenant")
    running = asyncio.create_task(box.run(Order(code="import time; print(1, flush=True); time.sleep(60)")))
    await asyncio.sleep(0.3)
    await cluster.kubelet.evict(NAMESPACE, box.id)
    with pytest.raises(errors.Unavailable) as gone:
        await running
    assert gone.value.code == "box_gone"
    assert not box.is_alive
    await eventually(lambda: not cluster.pods() and not cluster.jobs())


async def test_a_pod_whose_node_falls_silent_is_known_to_be_gone_when_the_cluster_says_so(
    make_backend: MakeBackend, cluster: Cluster
) -> None:
    backend = await make_backend()
    box = await backend.take("lean", "tenant")
    cluster.kubelet.container(box.id).freeze()
    running = asyncio.create_task(box.run(Order(code="print(1)")))
    await asyncio.sleep(0.1)
    cluster.api.delete(resources.PODS, NAMESPACE, box.id, 1, None)
    with pytest.raises(errors.Unavailable) as gone:
        await running
    assert gone.value.code == "box_gone"


async def test_an_image_that_cannot_be_pulled_is_told_at_once(make_backend: MakeBackend, cluster: Cluster) -> None:
    del cluster.kubelet.images[IMAGE]
    backend = await make_backend()
    began = time.monotonic()
    with pytest.raises(errors.Unavailable, match=f'ImagePullBackOff: Back-off pulling image "{IMAGE}"'):
        await backend.take("lean", "tenant")
    assert time.monotonic() - began < 10
    await eventually(lambda: not cluster.pods() and not cluster.jobs())


async def test_a_pool_whose_image_cannot_be_pulled_makes_the_readiness_red(
    make_backend: MakeBackend, cluster: Cluster
) -> None:
    del cluster.kubelet.images[IMAGE]
    backend = await make_backend(warm=2)
    await eventually(lambda: "BackOff" in str([pod["status"] for pod in cluster.pods()]))
    await asyncio.sleep(0.2)
    with pytest.raises(errors.Unavailable, match="no warm pod of lean: ImagePullBackOff"):
        await backend.ping()
    assert len(cluster.pods()) == 2


async def test_a_pod_that_no_node_has_room_for_is_waited_for_to_the_deadline(
    make_backend: MakeBackend, cluster: Cluster
) -> None:
    cluster.kubelet.room = 0
    backend = await make_backend(ready_s=1)
    with pytest.raises(errors.Unavailable, match=r"no box was ready in time .*Unschedulable: 0/1 nodes are available"):
        await backend.take("lean", "tenant")
    await eventually(lambda: not cluster.pods() and not cluster.jobs())


async def test_a_waiting_caller_gets_the_first_pod_that_there_is_room_for(
    make_backend: MakeBackend, cluster: Cluster
) -> None:
    cluster.kubelet.room = 0
    backend = await make_backend(warm=1)
    taking = asyncio.create_task(backend.take("lean", "tenant"))
    await asyncio.sleep(0.3)
    assert not taking.done()
    cluster.kubelet.room = 5
    assert await printed(await taking, "print(1)") == b"1\n"


async def test_a_quota_that_is_used_up_is_told(make_backend: MakeBackend, cluster: Cluster) -> None:
    quota = {"kind": "ResourceQuota", "metadata": {"name": "small"}, "spec": {"hard": {"count/jobs.batch": "1"}}}
    cluster.apply(quota)
    backend = await make_backend()
    await backend.take("lean", "tenant")
    with pytest.raises(errors.Unavailable, match=r"create jobs \(403\): .*exceeded quota: small"):
        await backend.take("lean", "tenant")


async def test_a_runner_that_does_not_know_its_token_is_not_believed(
    make_backend: MakeBackend, cluster: Cluster
) -> None:
    backend = await make_backend(warm=1)
    await eventually(lambda: sum(map(cluster.is_ready, cluster.pods())) == 1)
    [pod] = cluster.pods()
    name = pod["metadata"]["name"]
    cluster.store.change(
        resources.PODS,
        NAMESPACE,
        name,
        lambda each: each["metadata"]["annotations"].update({"trainyard.dev/token": "x" * 40}),
    )
    await asyncio.sleep(0.1)
    box = await backend.take("lean", "tenant")  # another one
    assert box.id != name
    await eventually(lambda: name not in {each["metadata"]["name"] for each in cluster.pods()})


async def test_a_cluster_without_a_network_policy_is_refused_unless_weaker_is_allowed(cluster: Cluster) -> None:
    cluster.store.remove(resources.POLICIES, NAMESPACE, "boxes")
    with pytest.raises(errors.StartupError, match="no NetworkPolicy of the namespace denies egress"):
        await KubernetesBackend(settings(), client(cluster)).start()
    backend = KubernetesBackend(settings().model_copy(update={"allow_weaker": True}), client(cluster))
    await backend.start()
    assert [layer.name for layer in backend.layers() if layer.is_required and not layer.is_held] == ["network policy"]
    await backend.aclose()


async def test_a_runtime_class_has_to_be_there(make_backend: MakeBackend, cluster: Cluster) -> None:
    with pytest.raises(errors.StartupError, match="no RuntimeClass gvisor"):
        await KubernetesBackend(settings(runtime_class="gvisor"), client(cluster)).start()
    cluster.apply({"kind": "RuntimeClass", "metadata": {"name": "gvisor"}, "handler": "runsc"})
    backend = await make_backend(runtime_class="gvisor")
    assert "gvisor, handler runsc" in {layer.detail for layer in backend.layers()}
    box = await backend.take("lean", "tenant")
    assert cluster.pods()[0]["spec"]["runtimeClassName"] == "gvisor"
    await box.close()
