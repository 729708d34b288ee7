"""Boxes on this machine: a zygote forks them into namespaces of their own, a pool keeps some ready.

In: the section `sandbox` of the settings and a directory of sockets. Out: `LocalBackend`, and the specifications of the
zygotes for the supervisor (`places`). Not covered: bugs of the kernel, which all boxes share with the host.
"""

from trainyard.sandbox.backends.local.backend import LocalBackend

__all__ = ["LocalBackend"]
