import json
import logging

import pytest
import structlog

from trainyard.core.settings import LogSettings
from trainyard.core.telemetry import MAX_CHILDREN, Metrics, configure_logging, redact

KEY = "sk-" + "A" * 43


def test_metrics_of_two_servers_do_not_meet() -> None:
    first, second = Metrics(), Metrics()
    first.requests.of("GET", "/", "200").inc()
    assert b'route="/"' in first.render()[0]
    assert b'route="/"' not in second.render()[0]


def test_children_are_kept() -> None:
    family = Metrics().counter("trainyard_test", "For a test", ("a",))
    assert family.of("x") is family.of("x") is not family.of("y")


def test_label_values_beyond_the_bound_are_counted_together() -> None:
    metrics = Metrics()
    family = metrics.counter("trainyard_test", "For a test", ("a",))
    for number in range(MAX_CHILDREN + 25):
        family.of(str(number)).inc()
    text = metrics.render()[0].decode()
    assert 'trainyard_test_total{a="other"} 25.0' in text
    assert text.count("trainyard_test_total{") == MAX_CHILDREN + 1


def test_a_metric_without_labels_counts_too() -> None:
    metrics = Metrics()
    metrics.gauge("trainyard_test", "For a test").of().set(3)
    metrics.histogram("trainyard_test_seconds", "For a test", buckets=(1.0,)).of().observe(0.5)
    text = metrics.render()[0].decode()
    assert "trainyard_test 3.0" in text
    assert 'trainyard_test_seconds_bucket{le="1.0"} 1.0' in text


@pytest.mark.parametrize(
    ("event", "shown"),
    [
        ({"event": f"refused {KEY}"}, {"event": "refused sk-***"}),
        ({"event": "tml-" + "A" * 43}, {"event": "tml-***"}),
        ({"prompt": "words", "n": 3}, {"prompt": "***", "n": 3}),
        ({"Authorization": f"Bearer {KEY}"}, {"Authorization": "Bearer sk-***"}),
        ({"messages": [1], "key_id": "key_1"}, {"messages": "***", "key_id": "key_1"}),
        ({"event": "task-list of disk-usage"}, {"event": "task-list of disk-usage"}),
    ],
)
def test_secrets_do_not_get_into_lines(event: dict[str, object], shown: dict[str, object]) -> None:
    assert redact(None, "info", event) == shown


@pytest.mark.parametrize(("format", "begins"), [("json", "{"), ("auto", "{"), ("console", "20")])
def test_lines_of_libraries_have_our_format(capfd: pytest.CaptureFixture[str], format: str, begins: str) -> None:
    configure_logging(LogSettings(level="info", format=format))  # type: ignore[arg-type]
    logging.getLogger("some.library").info("hello %s", KEY)
    logging.getLogger("uvicorn.access").info("quiet")
    configure_logging(LogSettings(level="warning", format="json"))
    written = capfd.readouterr().err
    assert written.startswith(begins)
    assert "hello sk-***" in written
    assert "quiet" not in written


def test_a_line_with_half_a_surrogate_pair_is_written_all_the_same(capfd: pytest.CaptureFixture[str]) -> None:
    structlog.get_logger("some").warning("got \ud800", odd=object)
    line = json.loads(capfd.readouterr().err)
    assert (line["event"], line["odd"]) == ("got \ud800", "<class 'object'>")
