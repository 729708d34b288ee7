"""A cluster of our own: a fake API server that speaks the real wire, and a node that runs real processes.

What it has of the real one: bearer tokens and the rules of a Role, namespaces, the published schemas, the security
level `restricted`, quotas, label and field selectors, resourceVersion, watches with bookmarks, 409 and 410, graceful
deletion, finalizers, owner references, jobs, startup probes, eviction and deadlines; and 429 and 500 on demand.
What it has not: a network that obeys NetworkPolicy, RuntimeClass handlers, cgroups, several nodes, CONNECT and exec.
"""

from tests.services.kubernetes.cluster import Cluster
from tests.services.kubernetes.containers import Image

__all__ = ["Cluster", "Image"]
