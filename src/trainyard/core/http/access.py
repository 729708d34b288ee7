"""What is counted and written down about every request."""

from collections.abc import Mapping
from typing import Any, Final

from trainyard.core import telemetry
from trainyard.core.http.hot import Request
from trainyard.core.http.routing import PUBLIC_PATHS
from trainyard.core.principal import Principal
from trainyard.core.telemetry import Metrics

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SHOWN_PATH = 200
_OWN_FIELDS: Final = frozenset(
    {"timestamp", "level", "logger", "event", "request_id", "method", "path", "route", "status", "bytes", "ms"}
    | {"tenant", "user", "key_id"}
)
_SPECIAL_FIELDS: Final = _OWN_FIELDS | telemetry.SECRET_FIELDS
_MOST_CALLERS = 10_000
"""Keys whose part of a line is kept written."""

_LINE: Final = (
    b'{"timestamp":"%b","level":"info","logger":"access","event":"request","request_id":"%b",%b,'
    b'"bytes":%d,"ms":%.2f%b%b}'
)


class AccessLines:
    """One line in the log and one count in the metrics per request."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._kinds: dict[tuple[str, int], _Kind] = {}
        self._callers: dict[str, tuple[Principal, bytes]] = {}

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
        is_probe = path in PUBLIC_PATHS and status < 400  # every few seconds, and of no interest
        fields = {
            **_noted(notes),
            "method": method,
            "path": path[:_SHOWN_PATH],
            "route": route,
            "status": status,
            "bytes": sent_bytes,
            "ms": round(took_s * 1000, 2),
            **_who(principal),
        }
        telemetry.say("access", "request", "debug" if is_probe else "info", fields)

    def end_hot(self, request: Request, took_s: float) -> None:
        """Do as `end` for a request of the hot door; what many lines have in common is written once."""
        kind = self._kinds.get((request.route, request.status)) or self._kind(request)
        if not telemetry.writes_json("info"):
            self._end_in_words(request, took_s)
            return
        self._metrics.in_flight.dec()
        kind.count.inc()
        kind.seconds.observe(took_s)
        noted = request.noted or (_written(request.notes) if request.notes else b"")
        caller = self._caller(request.principal) if request.principal else b""
        telemetry.put_json(
            _LINE
            % (
                telemetry.timestamp(),
                telemetry.masked(request.request_id.encode()),
                kind.written,
                request.sent_bytes,
                took_s * 1000,
                caller,
                noted,
            )
        )

    def _end_in_words(self, request: Request, took_s: float) -> None:
        """Do as `end`, with the id of this request: what ends it may run in the context of another one."""
        token = telemetry.REQUEST_ID.set(request.request_id)
        try:
            self.end(
                method="POST",
                path=request.route,
                route=request.route,
                status=request.status,
                sent_bytes=request.sent_bytes,
                took_s=took_s,
                principal=request.principal,
                notes=request.notes,
            )
        finally:
            telemetry.REQUEST_ID.reset(token)

    def _kind(self, request: Request) -> "_Kind":
        made = _Kind(self._metrics, request.route, request.status)
        self._kinds[request.route, request.status] = made
        return made

    def _caller(self, principal: Principal) -> bytes:
        known = self._callers.get(principal.key_id)
        if known is None or known[0] is not principal:
            if len(self._callers) >= _MOST_CALLERS:
                self._callers.clear()
            known = self._callers[principal.key_id] = (principal, telemetry.written(_who(principal)))
        return known[1]


class _Kind:
    """What the requests of one route with one status have in common."""

    def __init__(self, metrics: Metrics, route: str, status: int) -> None:
        self.count = metrics.requests.of("POST", route, str(status))
        self.seconds = metrics.request_s.of("POST", route)
        self.written = telemetry.written({"method": "POST", "path": route, "route": route, "status": status})[1:]


def _written(notes: dict[str, object]) -> bytes:
    if _SPECIAL_FIELDS.isdisjoint(notes):
        return telemetry.encoded(notes)
    return telemetry.written(_noted(notes))


def _noted(notes: Mapping[str, object] | None) -> dict[str, Any]:
    if not notes:
        return {}
    return {name: value for name, value in notes.items() if name not in _OWN_FIELDS}


def _who(principal: Principal | None) -> dict[str, Any]:
    if principal is None:
        return {}
    return {"tenant": principal.tenant, "user": principal.user, "key_id": principal.key_id}
