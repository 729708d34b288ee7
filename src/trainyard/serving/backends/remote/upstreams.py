"""All servers elsewhere, one `Upstream` per model of the catalog."""

from trainyard.core import wire
from trainyard.core.catalog import Change, ModelRegistry
from trainyard.core.clock import Clock
from trainyard.core.telemetry import Metrics
from trainyard.serving.backends.remote.breaker import State
from trainyard.serving.backends.remote.meters import UpstreamMetrics
from trainyard.serving.backends.remote.upstream import Upstream


class Upstreams:
    """Finds the upstream of a model; one that the catalog describes anew begins anew.

    Attributes:
        models: The catalog.
        metrics: What all upstreams count.
    """

    def __init__(self, models: ModelRegistry, clock: Clock, metrics: Metrics) -> None:
        self.models = models
        self.metrics = UpstreamMetrics(metrics)
        self._clock = clock
        self._pool = wire.Pool()
        self._by_name: dict[str, Upstream] = {}
        models.on_change(self._forget)

    def get(self, name: str) -> Upstream:
        """Find the upstream of a remote model by its canonical name.

        Raises:
            errors.UnknownModel: The catalog no longer has it.
        """
        found = self._by_name.get(name)
        if found is None:
            entry = self.models.entry(name)
            key = self.models.upstream_key(entry.name)
            found = self._by_name[name] = Upstream(entry, key, self._pool, self._clock, self.metrics)
        return found

    def is_available(self, name: str) -> bool:
        """Tell whether requests for a model are sent out at all; true for models that were never asked."""
        found = self._by_name.get(name)
        return found is None or found.breaker.state is not State.OPEN

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()

    def _forget(self, change: Change) -> None:
        for name in (*change.changed, *change.removed):
            self._by_name.pop(name, None)
