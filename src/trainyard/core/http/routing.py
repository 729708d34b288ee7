"""Which dialect a path speaks, also where no route is."""

from collections.abc import Iterable, Mapping

from starlette.routing import Match, Route
from starlette.types import Scope

from trainyard.core.http.dialects import Dialect

PUBLIC_PATHS = frozenset(
    {
        *("/", "/health", "/healthz", "/readyz", "/metrics"),
        *("/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"),
    }
)
"""Paths that answer without a key."""


class DialectMap:
    """Dialects by path; segments in braces stand for anything."""

    def __init__(self) -> None:
        self._by_prefix: dict[tuple[str, ...], Dialect] = {}

    def add(self, paths: Iterable[str], dialect: Dialect) -> None:
        """Note the dialect of route templates such as `/runs/{run_id}/status`."""
        for path in paths:
            self._by_prefix.setdefault(_literal(path), dialect)

    def of(self, path: str) -> Dialect:
        """Find the dialect of the route, or of the nearest one above the path; `native` where none is known."""
        segments = tuple(path.strip("/").split("/"))
        for length in range(len(segments), 0, -1):
            found = self._by_prefix.get(segments[:length])
            if found is not None:
                return found
        return "native"


def _literal(path: str) -> tuple[str, ...]:
    """Cut a template before its first parameter."""
    segments = path.split("{", 1)[0].strip("/").split("/")
    return tuple(segments)


class NamedRoute(Route):
    """A plain route that tells the metrics its name, as those of FastAPI do."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match as Starlette does."""
        match, child = super().matches(scope)
        if match is not Match.NONE:
            child["route"] = self
        return match, child


def template_of(scope: Mapping[str, object]) -> str:
    """Name the route of a request for labels: its template, or `unmatched`, so that labels stay few."""
    path = getattr(scope.get("route"), "path", None)
    if isinstance(path, str):
        return path
    known = scope.get("path")
    return known if isinstance(known, str) and known in PUBLIC_PATHS else "unmatched"
