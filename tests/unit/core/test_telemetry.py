import json
import logging
import re

import pytest
import structlog

from trainyard.core import telemetry
from trainyard.core.settings import LogSettings
from trainyard.core.telemetry import MAX_CHILDREN, REQUEST_ID, Metrics, configure_logging, log_line, redact

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


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.0, "1.0"), (1.0, "1.0"), (1.0001, "2.0"), (2.0, "2.0"), (9.0, "+Inf"), (-1.0, "1.0")]
)
def test_a_value_is_counted_in_the_first_bucket_that_holds_it(seconds: float, bucket: str) -> None:
    metrics = Metrics()
    metrics.histogram("trainyard_test_seconds", "For a test", ("a",), buckets=(1.0, 2.0)).of("x").observe(seconds)
    counts = re.findall(r'test_seconds_bucket\{a="x",le="(.*?)"\} (\S+)', metrics.render()[0].decode())
    assert next(le for le, count in counts if count == "1.0") == bucket
    assert f'trainyard_test_seconds_sum{{a="x"}} {seconds}' in metrics.render()[0].decode()


def test_a_gauge_goes_up_and_down() -> None:
    metrics = Metrics()
    gauge = metrics.gauge("trainyard_test", "For a test", ("a",)).of("x")
    gauge.inc(3)
    gauge.dec()
    assert b'trainyard_test{a="x"} 2.0' in metrics.render()[0]


def test_a_line_of_ours_looks_as_one_of_structlog(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(level="info", format="json"))
    token = REQUEST_ID.set("req_1")
    structlog.get_logger("some").info("happened", n=1, ms=1.5, note="to sk-" + "b" * 43, prompt="words")
    log_line("some", "happened", n=1, ms=1.5, note="to sk-" + "b" * 43, prompt="words")
    log_line("some", "happened", "debug")
    REQUEST_ID.reset(token)
    configure_logging(LogSettings(level="warning", format="json"))
    log_line("some", "happened")
    theirs, ours = map(json.loads, capfd.readouterr().err.splitlines())
    for line in (theirs, ours):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.pop("timestamp"))
    assert (
        ours
        == theirs
        == {
            "event": "happened",
            "level": "info",
            "logger": "some",
            "request_id": "req_1",
            "n": 1,
            "ms": 1.5,
            "note": "to sk-***",
            "prompt": "***",
        }
    )


def test_a_line_of_ours_is_readable_on_a_console(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(level="info", format="console"))
    log_line("some", "happened", n=1, key="sk-x")
    assert not telemetry.writes_json("info")
    configure_logging(LogSettings(level="warning", format="json"))
    written = capfd.readouterr().err
    assert "happened" in written
    assert "n=1" in written
    assert "sk-x" not in written


def test_a_line_of_ours_with_half_a_surrogate_pair_is_written_all_the_same(capfd: pytest.CaptureFixture[str]) -> None:
    log_line("some", "happened", "warning", text="got \ud800", odd=object)
    line = json.loads(capfd.readouterr().err)
    assert (line["text"], line["odd"]) == ("got \ud800", "<class 'object'>")


@pytest.mark.parametrize(
    ("fields", "written"),
    [
        ({}, b""),
        ({"a": 1, "b": "x"}, b',"a":1,"b":"x"'),
        ({"prompt": "words", "a": 1}, b',"prompt":"***","a":1'),
        ({"a": "\ud800"}, b',"a":"\\ud800"'),
    ],
)
def test_a_part_of_a_line_begins_with_its_comma(fields: dict[str, object], written: bytes) -> None:
    assert telemetry.written(fields).replace(b": ", b":").replace(b", ", b",") == written
