"""What the server says about itself: metrics with bounded labels, log lines without secrets."""

import json
import logging
import re
import sys
from collections.abc import MutableMapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from trainyard.core.settings import LogSettings

MAX_CHILDREN = 500
"""Combinations of label values per metric; further ones are counted under `other`."""

_LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

_Metric = TypeVar("_Metric", Counter, Gauge, Histogram)


class Family(Generic[_Metric]):
    """One metric; its children are looked up in a dict, which is ten times faster than `labels`."""

    def __init__(self, metric: _Metric, labels: Sequence[str]) -> None:
        self._metric: _Metric = metric
        self._other = ("other",) * len(labels)
        self._children: dict[tuple[str, ...], _Metric] = {}

    def of(self, *values: str) -> _Metric:
        """Find the child of these label values, in the order of their declaration."""
        child = self._children.get(values)
        if child is None:
            if len(self._children) >= MAX_CHILDREN:
                values = self._other
            child = self._children[values] = self._metric.labels(*values) if values else self._metric
        return child


class Metrics:
    """The metrics of one server, in a registry of its own.

    Attributes:
        requests: Answers by method, route template and status.
        request_s: Seconds from the request's first byte to the answer's last, by method and route.
        in_flight: Requests that are being answered.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self.counter("trainyard_http_requests", "Answered requests", ("method", "route", "status"))
        self.request_s = self.histogram("trainyard_http_request_seconds", "Time to the last byte", ("method", "route"))
        self.in_flight = self.gauge("trainyard_http_requests_in_flight", "Requests being answered").of()

    def counter(self, name: str, documentation: str, labels: Sequence[str] = ()) -> Family[Counter]:
        """Declare a counter; Prometheus shows it as `<name>_total`."""
        return Family(Counter(name, documentation, labels, registry=self.registry), labels)

    def gauge(self, name: str, documentation: str, labels: Sequence[str] = ()) -> Family[Gauge]:
        """Declare a gauge."""
        return Family(Gauge(name, documentation, labels, registry=self.registry), labels)

    def histogram(
        self, name: str, documentation: str, labels: Sequence[str] = (), buckets: Sequence[float] = _LATENCY_BUCKETS_S
    ) -> Family[Histogram]:
        """Declare a histogram; the default buckets are for seconds."""
        return Family(Histogram(name, documentation, labels, registry=self.registry, buckets=buckets), labels)

    def render(self) -> tuple[bytes, str]:
        """Write all metrics in Prometheus' text format; returns the bytes and their content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


_KEY = re.compile(r"\b(sk|tml)-[A-Za-z0-9_-]{8,}")
_SECRET_FIELDS = frozenset(
    {"authorization", "api_key", "key", "secret", "pepper", "prompt", "prompts", "messages", "body"}
)


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Structlog processor: fields that hold secrets or prompts are masked, keys inside of text too."""
    for name, value in event.items():
        if name in _SECRET_FIELDS:
            event[name] = "***"
        elif isinstance(value, str) and ("sk-" in value or "tml-" in value):
            event[name] = _KEY.sub(r"\1-***", value)
    return event


class _Writer:
    """Where structlog's lines end: standard error, one write per line."""

    def __init__(self, name: str = "trainyard") -> None:
        self.name = name

    def msg(self, line: str) -> None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    debug = info = warning = error = critical = msg


def configure_logging(settings: LogSettings) -> None:
    """Send all log lines of this process, those of libraries too, to standard error in one format."""
    is_json = settings.format == "json" or (settings.format == "auto" and not sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    final: list[structlog.typing.Processor] = [
        structlog.processors.format_exc_info,
        redact,
        structlog.processors.JSONRenderer(serializer=_json) if is_json else _console(),
    ]
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    structlog.configure(
        processors=[*shared, *final],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_Writer,
        cache_logger_on_first_use=False,  # modules hold loggers from before this call
    )
    of_libraries = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(of_libraries)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("uvicorn.access", "alembic", "httpx", "httpx2", "httpcore", "httpcore2"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _json(event: object, **_: object) -> str:
    try:
        return msgspec.json.encode(event, enc_hook=repr).decode()
    except UnicodeEncodeError:  # half of a surrogate pair, from a client
        return json.dumps(event, default=repr)


def _console() -> structlog.typing.Processor:
    colors = sys.stderr.isatty()
    return structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)
