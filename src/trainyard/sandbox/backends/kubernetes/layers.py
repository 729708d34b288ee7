"""What isolates pods here, as far as the API server can tell."""

from collections.abc import Iterator, Mapping
from typing import Any

from trainyard.core.settings import SandboxSettings
from trainyard.sandbox.backends.base import Layer
from trainyard.sandbox.backends.kubernetes import api
from trainyard.sandbox.backends.kubernetes.api import Api, ApiError

Object = Mapping[str, Any]


async def survey(client: Api, settings: SandboxSettings, labels: Mapping[str, str]) -> list[Layer]:
    """Ask the cluster, about pods with these labels.

    Raises:
        ApiError: The API server does not answer, or the Role lacks `list networkpolicies`.
    """
    ours = settings.kubernetes
    return [
        _network((await client.list(api.POLICIES)).items, labels),
        Layer(
            "unix sockets only",
            not ours.allow_sockets,
            "off by sandbox.kubernetes.allow_sockets: the network policy alone keeps code from the network"
            if ours.allow_sockets
            else "a filter on system calls in the runner, whatever the network plugin does",
            is_required=False,
        ),
        Layer(
            "pod",
            True,
            "a user id of its own, no capabilities, no new privileges, read-only root, RuntimeDefault and the "
            "runner's own seccomp filter, no service account; the runner looks, and ends where it is not so",
        ),
        Layer("memory", True, "the pod's limit; files in volumes of bounded size; the runner counts both before that"),
        Layer(
            "processes",
            True,
            "the kernel's limit for the pod's own user id; podPidsLimit of the kubelet, which cannot be seen from "
            "here, bounds the whole pod",
        ),
        await _runtime(client, ours.runtime_class),
        Layer(
            "user namespace",
            ours.user_namespaces,
            "hostUsers: false" if ours.user_namespaces else "off; set sandbox.kubernetes.user_namespaces",
            is_required=False,
        ),
    ]


def _network(policies: list[dict[str, Any]], labels: Mapping[str, str]) -> Layer:
    """Policies add up: egress is denied when one that selects the pods covers it, and none of them allows any."""
    covering = [each for each in policies if _selects(each["spec"], labels) and "Egress" in _kinds(each["spec"])]
    name = "network policy"
    if not covering:
        detail = "no NetworkPolicy of the namespace denies egress to boxes; apply deploy/kubernetes/30-network.yaml"
        return Layer(name, False, detail)
    if open_ones := [each["metadata"]["name"] for each in covering if each["spec"].get("egress")]:
        return Layer(name, False, f"{', '.join(open_ones)} allows boxes egress; take its rules out")
    found = ", ".join(each["metadata"]["name"] for each in covering)
    detail = f"{found} denies all egress, as an object; that it is kept is up to the cluster's network plugin"
    return Layer(name, True, detail)


def _kinds(spec: Object) -> list[str]:
    """Of a policy without `policyTypes`: ingress, and egress when it has rules for it."""
    return list(spec.get("policyTypes") or (["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]))


def _selects(spec: Object, labels: Mapping[str, str]) -> bool:
    selector = spec.get("podSelector") or {}
    return (selector.get("matchLabels") or {}).items() <= labels.items() and all(_fits(selector, labels))


def _fits(selector: Object, labels: Mapping[str, str]) -> Iterator[bool]:
    for each in selector.get("matchExpressions") or ():
        value, values = labels.get(each["key"]), each.get("values") or ()
        yield {
            "In": value is not None and value in values,
            "NotIn": value is None or value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }[each["operator"]]


async def _runtime(client: Api, wanted: str | None) -> Layer:
    name = "runtime class"
    if wanted is None:
        return Layer(name, False, "none: pods share the kernel of their node; gvisor or kata do not", is_required=False)
    try:
        found = await client.look(api.RUNTIME_CLASSES, wanted)
    except ApiError as error:
        if error.status == 404:
            return Layer(name, False, f"the cluster has no RuntimeClass {wanted}")
        if error.status == 403:
            return Layer(name, False, f"{wanted}, but it cannot be looked at: {error.text}", is_required=False)
        raise
    return Layer(name, True, f"{wanted}, handler {found.get('handler')}")
