"""What the server says about itself: metrics with bounded labels, log lines without secrets."""

import asyncio
import atexit
import json
import logging
import os
import re
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import msgspec
import structlog
from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from trainyard.core.counters import Counter, Gauge, Histogram
from trainyard.core.lines import Lines
from trainyard.core.settings import LogSettings

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series per counter, which no query here asks for

MAX_CHILDREN = 500
"""Combinations of label values per metric; further ones are counted under `other`."""

_LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

SHARED_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""Variable that prometheus_client reads when it is imported: where several processes keep their counts."""

Merge = Literal["livesum", "livemax", "livemin", "livemostrecent"]

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
        self._shared: list[Collector] = []
        self._refreshes: list[Callable[[], Awaitable[None]]] = []
        self.requests = self.counter("trainyard_http_requests", "Answered requests", ("method", "route", "status"))
        self.request_s = self.histogram("trainyard_http_request_seconds", "Time to the last byte", ("method", "route"))
        self.in_flight = self.gauge("trainyard_http_requests_in_flight", "Requests being answered").of()
        _LINES.on_drop = self.counter("trainyard_log_lines_dropped", "Log lines not written").of().inc

    def counter(self, name: str, documentation: str, labels: Sequence[str] = ()) -> Family[Counter]:
        """Declare a counter; Prometheus shows it as `<name>_total`."""
        return Family(Counter(name, documentation, labels, registry=self.registry), labels)

    def gauge(
        self, name: str, documentation: str, labels: Sequence[str] = (), *, merge: Merge = "livesum"
    ) -> Family[Gauge]:
        """Declare a gauge; `merge` makes one value of those of several processes."""
        return Family(Gauge(name, documentation, labels, registry=self.registry, multiprocess_mode=merge), labels)

    def histogram(
        self, name: str, documentation: str, labels: Sequence[str] = (), buckets: Sequence[float] = _LATENCY_BUCKETS_S
    ) -> Family[Histogram]:
        """Declare a histogram; the default buckets are for seconds."""
        return Family(Histogram(name, documentation, labels, registry=self.registry, buckets=buckets), labels)

    def add(self, collector: Collector, refresh: Callable[[], Awaitable[None]]) -> None:
        """Take in metrics that are read elsewhere, are the same in every process, and are brought up to date first."""
        self.registry.register(collector)
        self._shared.append(collector)
        self._refreshes.append(refresh)

    async def refresh(self) -> None:
        """Bring up to date what is read elsewhere; before `render`."""
        await asyncio.gather(*(refresh() for refresh in self._refreshes))

    def render(self) -> tuple[bytes, str]:
        """Write all metrics in Prometheus' text format; returns the bytes and their content type.

        With several HTTP processes the counts of all of them are added up; they share a directory, which the variable
        that prometheus_client has for this names.
        """
        directory = os.environ.get(SHARED_DIRECTORY)
        if directory is None:
            return generate_latest(self.registry), CONTENT_TYPE_LATEST
        _forget_dead(Path(directory))
        merged = CollectorRegistry()
        MultiProcessCollector(merged, directory)  # type: ignore[no-untyped-call]
        for collector in self._shared:
            merged.register(collector)
        return generate_latest(merged), CONTENT_TYPE_LATEST


def _forget_dead(directory: Path) -> None:
    """Drop the gauges of processes that are gone; what they counted stays."""
    for file in directory.glob("gauge_live*_*.db"):
        pid = file.stem.rpartition("_")[2]
        if not Path("/proc", pid).exists():
            file.unlink(missing_ok=True)


_KEY = re.compile(r"\b(sk|tml)-[A-Za-z0-9_-]{8,}")
_KEY_BYTES = re.compile(_KEY.pattern.encode())
SECRET_FIELDS = frozenset(
    {"authorization", "api_key", "key", "secret", "pepper", "prompt", "prompts", "messages", "body"}
)


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Structlog processor: fields that hold secrets or prompts are masked, keys inside of text too."""
    for name, value in event.items():
        if name in SECRET_FIELDS:
            event[name] = "***"
        elif isinstance(value, str) and ("sk-" in value or "tml-" in value):
            event[name] = _KEY.sub(r"\1-***", value)
    return event


Level = Literal["debug", "info", "warning", "error"]

REQUEST_ID: ContextVar[str | None] = ContextVar("trainyard_request_id", default=None)
"""Id of the request that runs; every log line of its task carries it."""

_LINES = Lines()
"""Standard error of this process."""

_encoder = msgspec.json.Encoder(enc_hook=repr)


class _Style:
    """How lines look, and which are written; `configure_logging` replaces the one that is in use."""

    def __init__(self, settings: LogSettings) -> None:
        self.is_json = settings.format == "json" or (settings.format == "auto" and not sys.stderr.isatty())
        self.level = logging.getLevelNamesMapping()[settings.level.upper()]
        self.levels = frozenset(
            name for name in ("debug", "info", "warning", "error", "critical") if _number(name) >= self.level
        )
        self.render: structlog.typing.Processor = (
            structlog.processors.JSONRenderer(serializer=_json) if self.is_json else _console()
        )


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]


def log_line(logger: str, event: str, level: Level = "info", /, **fields: object) -> None:
    """Write a line without structlog, for lines that every request has: a fifth of its cost, the same form.

    Lines under `error` are gathered for a moment; their order among all lines is kept.

    Args:
        logger: Name of the part that says it.
        event: What happened, snake_case.
        level: How much it matters.
        fields: Facts; values are what JSON knows, others are shown by their repr.
    """
    say(logger, event, level, fields)


def say(logger: str, event: str, level: Level, fields: Mapping[str, object]) -> None:
    """Write a line as `log_line` does, of fields that are a mapping already."""
    style = _style
    if level not in style.levels:
        return
    line = {"timestamp": timestamp().decode(), "level": level, "logger": logger, "event": event, **fields}
    request_id = REQUEST_ID.get()
    if request_id is not None:
        line["request_id"] = request_id
    if not SECRET_FIELDS.isdisjoint(fields):
        redact(None, level, line)
    put = _LINES.put if level in ("info", "debug") else _LINES.write
    put(_rendered(style, level, line))


def writes_json(level: Level) -> bool:
    """Whether a line of this level is written, and as JSON; then `put_json` may be used in place of `say`."""
    return _style.is_json and level in _style.levels


def written(fields: Mapping[str, object]) -> bytes:
    """Write fields as the inside of a JSON object, each with a comma before it, secrets and keys masked."""
    return encoded(fields if SECRET_FIELDS.isdisjoint(fields) else redact(None, "", {**fields}))


def encoded(fields: Mapping[str, object]) -> bytes:
    """Write fields as `written` does, whose names are known to be harmless."""
    inside = masked(_encoded(fields)[1:-1])
    return b"," + inside if inside else b""


def put_json(line: bytes) -> None:
    """Put a whole line, written as JSON, among the others; its parts come from `written`, `encoded` or `masked`."""
    _LINES.put(line)


def _rendered(style: _Style, level: str, line: dict[str, Any]) -> bytes:
    if not style.is_json:
        return str(style.render(None, level, redact(None, level, line))).encode(errors="replace")
    return masked(_encoded(line))


def _encoded(fields: Mapping[str, object]) -> bytes:
    try:
        return _encoder.encode(fields)
    except UnicodeEncodeError:
        return _json(fields).encode()


def masked(raw: bytes) -> bytes:
    """Mask the keys in a part of a line."""
    return _KEY_BYTES.sub(rb"\1-***", raw) if b"sk-" in raw or b"tml-" in raw else raw


_stamped: tuple[int, bytes] = (-1, b"")


def timestamp() -> bytes:
    """Write the time as structlog does; the part down to the second is the same for many lines."""
    global _stamped
    second, rest_us = divmod(time.time_ns() // 1000, 1_000_000)
    known, text = _stamped
    if second != known:
        text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()
        _stamped = (second, text)
    return b"%b.%06dZ" % (text, rest_us)


def flush_lines(wait_s: float = 1.0) -> None:
    """Write the lines that are still gathered; at the end of a process, and where tests look at them."""
    _LINES.flush(wait_s)


atexit.register(flush_lines)


class _Writer:
    """Where structlog's lines end."""

    def __init__(self, name: str = "trainyard") -> None:
        self.name = name

    def msg(self, line: str) -> None:
        _LINES.put(line.encode(errors="replace"))

    def urgent(self, line: str) -> None:
        _LINES.write(line.encode(errors="replace"))

    debug = info = msg
    warning = error = critical = urgent


class _Handler(logging.Handler):
    """Where the lines of libraries end."""

    def emit(self, record: logging.LogRecord) -> None:
        _LINES.write(self.format(record).encode(errors="replace"))


def _with_request_id(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    request_id = REQUEST_ID.get()
    if request_id is not None:
        event.setdefault("request_id", request_id)
    return event


def configure_logging(settings: LogSettings) -> None:
    """Send all log lines of this process, those of libraries too, to standard error in one format."""
    global _style
    flush_lines()
    _style = _Style(settings)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _with_request_id,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    final: list[structlog.typing.Processor] = [structlog.processors.format_exc_info, redact, _style.render]
    structlog.configure(
        processors=[*shared, *final],
        wrapper_class=structlog.make_filtering_bound_logger(_style.level),
        logger_factory=_Writer,
        cache_logger_on_first_use=False,  # modules hold loggers from before this call
    )
    handler = _Handler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_style.level)
    for noisy in ("uvicorn.access", "alembic", "httpx", "httpx2", "httpcore", "httpcore2"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _json(event: object, **_: object) -> str:
    try:
        return _encoder.encode(event).decode()
    except UnicodeEncodeError:  # half of a surrogate pair, from a client
        return json.dumps(event, default=repr)


def _console() -> structlog.typing.Processor:
    colors = sys.stderr.isatty()
    return structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)


_style = _Style(LogSettings())
