"""One mock LLM server: OpenAI's and Ollama's wire, latency, deterministic text, faults; see `MockServer`."""

from trainyard.loadtest.mock.connection import Latency
from trainyard.loadtest.mock.faults import Fault, Plan
from trainyard.loadtest.mock.seen import Recorded, Seen
from trainyard.loadtest.mock.server import MockServer, in_thread, serve

__all__ = ["Fault", "Latency", "MockServer", "Plan", "Recorded", "Seen", "in_thread", "serve"]
