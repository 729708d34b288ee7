"""The fake API server, driven by a published client of Kubernetes, so that its wire is not our own reading of it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kubernetes_asyncio import client, watch

from tests.services.kubernetes import Cluster
from tests.services.kubernetes.cluster import NAMESPACE, running

Core = Any
"""`client.CoreV1Api`, whose annotations know neither dictionaries as bodies nor the names of options."""


def pod(name: str, **labels: str) -> dict[str, Any]:
    container = {"name": "box", "image": "none", "securityContext": {"runAsUser": 1000}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [container], "automountServiceAccountToken": False},
    }


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with running([], {}) as made:
        await made.kubelet.aclose()  # nothing happens to a pod by itself
        yield made


@pytest.fixture
async def core(cluster: Cluster) -> AsyncIterator[Core]:
    configuration = client.Configuration(host=cluster.url)
    configuration.api_key = {"BearerToken": f"Bearer {cluster.access.admin_token}"}
    async with client.ApiClient(configuration) as api:
        yield client.CoreV1Api(api)


async def test_a_pod_is_made_read_listed_and_deleted(core: Core) -> None:
    made = await core.create_namespaced_pod(NAMESPACE, pod("a", colour="red"))
    assert (made.metadata.name, made.status.phase) == ("a", "Pending")
    await core.create_namespaced_pod(NAMESPACE, pod("b", colour="blue"))
    listed = await core.list_namespaced_pod(NAMESPACE, label_selector="colour in (red)")
    assert [each.metadata.name for each in listed.items] == ["a"]
    listed = await core.list_namespaced_pod(
        NAMESPACE, label_selector="colour!=red", field_selector="status.phase=Pending"
    )
    assert [each.metadata.name for each in listed.items] == ["b"]
    await core.delete_namespaced_pod("a", NAMESPACE)
    with pytest.raises(client.ApiException) as missing:
        await core.read_namespaced_pod("a", NAMESPACE)
    assert missing.value.status == 404


async def test_a_second_change_of_the_same_version_is_a_conflict(core: Core) -> None:
    made = await core.create_namespaced_pod(NAMESPACE, pod("a"))
    patch = {"metadata": {"labels": {"state": "claimed"}, "resourceVersion": made.metadata.resource_version}}
    merge = "application/merge-patch+json"
    first = await core.patch_namespaced_pod("a", NAMESPACE, patch, _content_type=merge)
    assert first.metadata.labels == {"state": "claimed"}
    patch["metadata"]["labels"] = {"state": "mine"}
    with pytest.raises(client.ApiException) as conflict:
        await core.patch_namespaced_pod("a", NAMESPACE, patch, _content_type=merge)
    assert (conflict.value.status, conflict.value.reason) == (409, "Conflict")


async def test_a_watch_tells_what_happens_after_its_version(core: Core) -> None:
    await core.create_namespaced_pod(NAMESPACE, pod("before"))
    start = (await core.list_namespaced_pod(NAMESPACE)).metadata.resource_version
    seen = []

    async def look() -> None:
        async with watch.Watch().stream(
            core.list_namespaced_pod, NAMESPACE, label_selector="c=1", resource_version=start, timeout_seconds=10
        ) as stream:
            async for event in stream:
                seen.append((event["type"], event["object"].metadata.name))
                if event["type"] == "DELETED":
                    return

    looking = asyncio.create_task(look())
    await core.create_namespaced_pod(NAMESPACE, pod("a", c="1"))
    await core.create_namespaced_pod(NAMESPACE, pod("other"))
    patch = {"metadata": {"labels": {"c": None}}}
    await core.patch_namespaced_pod("a", NAMESPACE, patch, _content_type="application/merge-patch+json")
    await asyncio.wait_for(looking, 10)
    assert seen == [("ADDED", "a"), ("DELETED", "a")]


async def test_a_watch_of_a_forgotten_version_is_gone(core: Core, cluster: Cluster) -> None:
    start = (await core.list_namespaced_pod(NAMESPACE)).metadata.resource_version
    await core.create_namespaced_pod(NAMESPACE, pod("a"))
    cluster.store.compact()
    with pytest.raises(client.ApiException) as gone:
        await core.list_namespaced_pod(NAMESPACE, watch=True, resource_version=start, _preload_content=True)
    assert gone.value.status == 410


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"spec": {"containers": [{"name": "box", "image": "i", "imagee": "x"}]}}, 400, "imagee"),
        ({"spec": {"containers": [{"name": "box"}], "runtimeClassName": "none"}}, 403, 'RuntimeClass "none" not found'),
        ({"metadata": {"name": "a", "labels": {"x": 1}}}, 400, "strict decoding error"),
    ],
)
async def test_a_pod_that_is_none_is_refused(core: Core, change: dict[str, Any], status: int, words: str) -> None:
    with pytest.raises(client.ApiException) as refused:
        await core.create_namespaced_pod(NAMESPACE, pod("a") | change)
    assert refused.value.status == status
    assert words in json.loads(refused.value.body or "")["message"]


async def test_leases_are_renewed_and_jobs_make_pods(core: Core, cluster: Cluster) -> None:
    leases: Any = client.CoordinationV1Api(core.api_client)
    lease = {"metadata": {"name": "l"}, "spec": {"renewTime": "2026-01-01T00:00:00.000000Z"}}
    made = await leases.create_namespaced_lease(NAMESPACE, lease)
    assert made.spec.renew_time.year == 2026
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {**pod("x")["spec"], "restartPolicy": "Never"}}
    jobs: Any = client.BatchV1Api(core.api_client)
    await jobs.create_namespaced_job(
        NAMESPACE, {"metadata": {"name": "j"}, "spec": {"backoffLimit": 0, "template": template}}
    )
    await asyncio.sleep(0.05)
    [made_pod] = (await core.list_namespaced_pod(NAMESPACE, label_selector="batch.kubernetes.io/job-name=j")).items
    assert made_pod.metadata.owner_references[0].kind == "Job"
    await jobs.delete_namespaced_job("j", NAMESPACE, propagation_policy="Background")
    await asyncio.sleep(0.05)
    assert not (await core.list_namespaced_pod(NAMESPACE)).items


@pytest.mark.parametrize(("token", "status"), [("wrong", 401), ("token-of-the-server", 403)])
async def test_who_may_not_is_told_so(core: Core, token: str, status: int) -> None:
    core.api_client.configuration.api_key = {"BearerToken": f"Bearer {token}"}
    with pytest.raises(client.ApiException) as refused:
        await core.list_namespaced_pod(NAMESPACE)
    assert refused.value.status == status
    if status == 403:
        assert 'cannot list resource "pods"' in json.loads(refused.value.body or "")["message"]


async def test_faults_come_as_often_as_they_are_ordered(core: Core, cluster: Cluster) -> None:
    cluster.faults.too_many("list", "pods", times=1, retry_after_s=7)
    cluster.faults.internal("list", "pods", times=1)
    for status in (429, 500):
        with pytest.raises(client.ApiException) as refused:
            await core.list_namespaced_pod(NAMESPACE)
        assert refused.value.status == status
        if status == 429:
            assert dict(refused.value.headers or {})["Retry-After"] == "7"
    assert (await core.list_namespaced_pod(NAMESPACE)).items == []
