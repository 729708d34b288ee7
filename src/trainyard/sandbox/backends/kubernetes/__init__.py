"""Pods of a Kubernetes cluster as boxes.

In: the section `sandbox.kubernetes`, an API server. Out: `RunnerBox`es over TCP. Not here: what isolates pods, which is
the cluster's (see `layers`), and images, which are built by deploy/Dockerfile.runner.
"""

from trainyard.sandbox.backends.kubernetes.backend import KubernetesBackend

__all__ = ["KubernetesBackend"]
