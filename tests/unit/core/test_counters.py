"""Counters without locks count as those with locks do."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry

from trainyard.core import counters
from trainyard.core.telemetry import SHARED_DIRECTORY, Metrics

BOUNDS = (0.1, 1.0)
_THREADS, _TIMES = 4, 20_000


@pytest.fixture
def _hasty() -> Iterator[None]:
    """Threads that take turns as often as the interpreter lets them."""
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual_s)


def _add(counter: prometheus_client.Counter, gauge: prometheus_client.Gauge, seen: prometheus_client.Histogram) -> None:
    for amount in (1, 2.5, 1):
        counter.labels("x").inc(amount)
        gauge.labels("x").inc(amount)
    gauge.labels("x").dec()
    gauge.labels("y").set(7)
    for value in (0.05, 0.1, 0.5, 1.0, 3.0):
        seen.labels("x").observe(value)


def test_what_is_shown_is_what_the_originals_show() -> None:
    shown = []
    for module in (counters, prometheus_client):
        registry = CollectorRegistry()
        counter = module.Counter("c", "C", ("a",), registry=registry)
        gauge = module.Gauge("g", "G", ("a",), registry=registry)
        seen = module.Histogram("h", "H", ("a",), registry=registry, buckets=BOUNDS)
        _add(counter, gauge, seen)
        shown.append(prometheus_client.generate_latest(registry))
    lines = [[line for line in one.decode().splitlines() if "_created" not in line] for one in shown]
    assert lines[0] == lines[1]
    assert 'c_total{a="x"} 4.5' in lines[0]
    assert 'h_bucket{a="x",le="0.1"} 2.0' in lines[0]


@pytest.mark.usefixtures("_hasty")
def test_threads_lose_nothing() -> None:
    metrics = Metrics()
    counter = metrics.counter("t_counter", "C").of()
    gauge = metrics.gauge("t_gauge", "G").of()
    seen = metrics.histogram("t_seen", "H", buckets=BOUNDS).of()

    def work() -> None:
        for _ in range(_TIMES):
            counter.inc()
            gauge.inc(2)
            gauge.dec()
            seen.observe(0.5)

    threads = [threading.Thread(target=work) for _ in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    value: Callable[..., float | None] = metrics.registry.get_sample_value
    names = ("t_counter_total", "t_gauge", "t_seen_count", "t_seen_sum")
    assert [value(name) for name in names] == [80_000.0, 80_000.0, 80_000.0, 40_000.0]


_COUNT = """
from trainyard.core.telemetry import Metrics
metrics = Metrics()
metrics.counter("t_counter", "C", ("a",)).of("x").inc(2)
metrics.counter("t_alone", "C").of().inc()
metrics.histogram("t_seen", "H", buckets=(0.1, 1.0)).of().observe(0.5)
metrics.gauge("t_gauge", "G").of().inc(3)
print(metrics.render()[0].decode())
"""


def test_several_processes_are_added_up(tmp_path: Path) -> None:
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", _COUNT],
            env={**os.environ, SHARED_DIRECTORY: str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    lines = done.stdout.splitlines()
    assert 't_counter_total{a="x"} 4.0' in lines
    assert "t_alone_total 2.0" in lines
    assert 't_seen_bucket{le="1.0"} 2.0' in lines
    assert "t_seen_sum 1.0" in lines
    assert "t_gauge 3.0" in lines  # of those that live
