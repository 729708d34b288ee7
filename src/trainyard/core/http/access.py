"""What is counted and written down about every request."""

from collections.abc import Mapping
from typing import Any

from trainyard.core import telemetry
from trainyard.core.http.routing import PUBLIC_PATHS
from trainyard.core.principal import Principal
from trainyard.core.telemetry import Metrics

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SHOWN_PATH = 200


class AccessLines:
    """One line in the log and one count in the metrics per request."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def begin(self) -> None:
        """A request has come."""
        self._metrics.in_flight.inc()

    def end(
        self,
        *,
        method: str,
        path: str,
        route: str,
        status: int,
        sent_bytes: int,
        took_s: float,
        principal: Principal | None,
        notes: Mapping[str, object] | None,
    ) -> None:
        """Its last byte is out, or nobody is there to read it; notes do not replace what every line has."""
        self._metrics.in_flight.dec()
        if method not in _METHODS:
            method = "other"
        self._metrics.requests.of(method, route, str(status)).inc()
        self._metrics.request_s.of(method, route).observe(took_s)
        fields: dict[str, Any] = {**notes} if notes else {}
        fields["method"] = method
        fields["path"] = path[:_SHOWN_PATH]
        fields["route"] = route
        fields["status"] = status
        fields["bytes"] = sent_bytes
        fields["ms"] = round(took_s * 1000, 2)
        if principal is not None:
            fields["tenant"] = principal.tenant
            fields["user"] = principal.user
            fields["key_id"] = principal.key_id
        is_probe = path in PUBLIC_PATHS and status < 400  # every few seconds, and of no interest
        telemetry.say("access", "request", "debug" if is_probe else "info", fields)
