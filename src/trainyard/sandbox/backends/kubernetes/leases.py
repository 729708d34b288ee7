"""Which servers of an installation live: each renews a lease, and watches those of the others fall silent."""

import datetime
import time
from collections.abc import Callable
from typing import Any, Final

from trainyard.sandbox.backends.kubernetes import api, names
from trainyard.sandbox.backends.kubernetes.api import Api, ApiError

Object = dict[str, Any]

_FORGOTTEN: Final = 10
"""Times `lease_s`, after which a silent lease is deleted."""

_LONGEST_GAP: Final = 0.5
"""Of `lease_s`, that the time between two looks counts at most."""

_PAUSE_S: Final = 1.0
"""Beyond that: a server that has looked for so much longer at nothing begins to listen anew, and takes nobody for dead
as long as that goes on; what a dead one has left then stays, which is better than to end the boxes of a living one."""


class Leases:
    """Keeps the lease of this server, and knows the others.

    Silence is measured by the clock of this server, from the moment at which it saw the last change: clocks of
    different machines are never compared. Only time in which it looks counts: after a pause of its own, or of the API
    server, in which nobody could renew anything, the others have the time to speak up. A server that has just started
    waits `lease_s` before it takes anybody for dead.

    Args:
        name: Of the lease of this server; no other server has the same.
        labels: Of the lease; `names.GENERATION` is among them.
    """

    def __init__(
        self,
        client: Api,
        name: str,
        labels: dict[str, str],
        lease_s: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api, self.name, self._labels, self._lease_s = client, name, labels, lease_s
        self._monotonic = monotonic
        self._looked, self._watched_s = monotonic(), 0.0
        self._seen: dict[str, tuple[str, float]] = {}
        self._missed: dict[str, float] = {}
        self._generations: dict[str, str] = {}

    async def renew(self) -> None:
        """Say that this server lives, and look at the others. Raises ApiError."""
        spec = {"holderIdentity": self.name, "leaseDurationSeconds": self._lease_s, "renewTime": _micro_time()}
        try:
            await self._api.patch(api.LEASES, self.name, {"spec": spec})
        except ApiError as error:
            if error.status != 404:
                raise
            metadata = {"name": self.name, "labels": self._labels}
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
            await self._api.create(api.LEASES, lease)
        selector = f"{names.INSTALLATION}={self._labels[names.INSTALLATION]}"
        self._look((await self._api.list(api.LEASES, selector)).items)
        for name, (_, at) in list(self._seen.items()):
            if self._watched_s - at > _FORGOTTEN * self._lease_s:
                await self._api.delete(api.LEASES, name)

    async def give_up(self) -> None:
        """Delete the lease of this server. Raises ApiError."""
        await self._api.delete(api.LEASES, self.name)

    def _look(self, found: list[Object]) -> None:
        now = self._monotonic()
        gap_s, longest_s = now - self._looked, _LONGEST_GAP * self._lease_s
        if gap_s > longest_s + _PAUSE_S:
            self._seen, self._missed = {}, {}
        else:
            self._watched_s += min(gap_s, longest_s)
        self._looked, seen = now, {}
        for lease in found:
            name, renewed = lease["metadata"]["name"], lease["spec"].get("renewTime", "")
            before = self._seen.get(name)
            seen[name] = before if before is not None and before[0] == renewed else (renewed, self._watched_s)
            self._generations[name] = (lease["metadata"].get("labels") or {}).get(names.GENERATION, "")
        self._seen = seen
        self._missed = {name: at for name, at in self._missed.items() if name not in seen}

    def is_dead(self, name: str) -> bool:
        """Whether a server has been silent for `lease_s`, or has had no lease for so long."""
        if name == self.name:
            return False
        last = self._seen[name][1] if name in self._seen else self._missed.setdefault(name, self._watched_s)
        return self._watched_s - last > self._lease_s

    def living(self, generation: str) -> list[str]:
        """Name the servers of a generation that live, this one included."""
        others = [name for name in self._seen if self._generations.get(name) == generation and not self.is_dead(name)]
        own = [self.name] if generation == self._labels[names.GENERATION] else []
        return sorted({*others, *own})

    def is_abandoned(self, generation: str) -> bool:
        """Whether no server of a generation lives, as far as this one has had the time to see."""
        return self._watched_s > self._lease_s and not self.living(generation)


def _micro_time() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
