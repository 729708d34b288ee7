"""The test kit that users get too: a pytest plugin, the mock LLM server, a hub stand-in, and the guide's fixtures.

Knows nothing of production; nothing in production imports it. Names are found when they are asked for, so that the
plugin, which every pytest run loads, costs nothing.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainyard.loadtest.mock import Fault, Latency, MockServer, in_thread
    from trainyard.testing.hub import HubModel, HubStandIn

__all__ = ["Fault", "HubModel", "HubStandIn", "Latency", "MockServer", "in_thread"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name.startswith("Hub"):
        from trainyard.testing import hub

        return getattr(hub, name)
    from trainyard.loadtest import mock

    return getattr(mock, name)
