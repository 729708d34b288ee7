"""The resources that the fake API server has, with their places in the URL."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Resource:
    """One kind of objects.

    Attributes:
        group: API group; empty for the core.
        plural: As the URL has it.
    """

    group: str
    version: str
    plural: str
    kind: str
    is_namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


NAMESPACES = Resource("", "v1", "namespaces", "Namespace", is_namespaced=False)
PODS = Resource("", "v1", "pods", "Pod")
QUOTAS = Resource("", "v1", "resourcequotas", "ResourceQuota")
JOBS = Resource("batch", "v1", "jobs", "Job")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
POLICIES = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
RUNTIME_CLASSES = Resource("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", is_namespaced=False)

ALL = (NAMESPACES, PODS, QUOTAS, JOBS, LEASES, POLICIES, RUNTIME_CLASSES)


def find(group: str, version: str, plural: str) -> Resource | None:
    return next((each for each in ALL if (each.group, each.version, each.plural) == (group, version, plural)), None)
