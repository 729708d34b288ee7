"""The test kit that users get too: a pytest plugin with a live server, an in-process one, and the guide's fixtures.

Knows nothing of production; nothing in production imports it.
"""

from trainyard.loadtest.mock import Fault, Latency, MockServer, in_thread

__all__ = ["Fault", "Latency", "MockServer", "in_thread"]
