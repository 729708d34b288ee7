import json
from collections.abc import Iterator
from typing import Literal

import pytest

from trainyard.core.http import access, hot
from trainyard.core.http.access import AccessLines
from trainyard.core.principal import Principal
from trainyard.core.settings import LogSettings
from trainyard.core.telemetry import REQUEST_ID, Metrics, configure_logging

Lines = Iterator[None]


@pytest.fixture
def _written() -> Lines:
    configure_logging(LogSettings(level="info", format="json"))
    yield
    configure_logging(LogSettings(level="warning", format="json"))


def _request(user: str | None, /, **notes: object) -> hot.Request:
    made = hot.Request({}, None, headers={}, request_id="req_1", route="/v1/things", began_s=0.0)  # type: ignore[arg-type]
    made.principal = None if user is None else Principal("lab", user, f"key_{user}", frozenset())
    made.status, made.sent_bytes = 200, 7
    if notes:
        made.note(**notes)
    return made


@pytest.mark.usefixtures("_written")
@pytest.mark.parametrize(
    ("notes", "shown"),
    [
        ({}, {}),
        ({"model": "m", "tokens": 3}, {"model": "m", "tokens": 3}),
        ({"status": 500, "user": "eve", "model": "m"}, {"model": "m"}),
        ({"prompt": "words", "model": "m"}, {"prompt": "***", "model": "m"}),
        ({"model": "sk-" + "a" * 43}, {"model": "sk-***"}),
        ({"model": "\ud800"}, {"model": "\ud800"}),
    ],
)
@pytest.mark.parametrize("user", ["ada", None])
def test_both_ways_of_writing_a_line_write_the_same(
    capfd: pytest.CaptureFixture[str], notes: dict[str, object], shown: dict[str, object], user: str | None
) -> None:
    request, lines = _request(user, **notes), AccessLines(Metrics())
    lines.end_hot(request, 0.0125)
    lines.end(
        method="POST",
        path=request.route,
        route=request.route,
        status=request.status,
        sent_bytes=request.sent_bytes,
        took_s=0.0125,
        principal=request.principal,
        notes=request.notes,
    )
    fast, slow = (json.loads(line) for line in capfd.readouterr().err.splitlines())
    assert fast.pop("request_id") == "req_1"  # of the request's context, which the other way reads
    assert {**fast, "timestamp": ""} == {**slow, "timestamp": ""}
    assert {name: fast[name] for name in shown} == shown
    assert (fast["status"], fast["ms"], fast.get("user")) == (200, 12.5, user)


@pytest.mark.usefixtures("_written")
def test_no_part_of_a_hot_line_shows_a_key(capfd: pytest.CaptureFixture[str]) -> None:
    key = "sk-" + "a" * 43
    request = _request("ada", model=key)
    request.principal = Principal(key, key, key, frozenset())
    request.request_id = request.route = key
    AccessLines(Metrics()).end_hot(request, 0.0)
    line = capfd.readouterr().err
    assert "aaa" not in line
    shown = json.loads(line)
    assert {shown[name] for name in ("request_id", "path", "route", "tenant", "user", "key_id", "model")} == {"sk-***"}


@pytest.mark.usefixtures("_written")
def test_a_caller_who_changes_is_written_anew_and_many_do_not_fill_the_memory(
    capfd: pytest.CaptureFixture[str],
) -> None:
    lines = AccessLines(Metrics())
    for number in range(access._MOST_CALLERS + 10):
        lines.end_hot(_request(f"u{number}"), 0.0)
    assert len(lines._callers) <= access._MOST_CALLERS
    capfd.readouterr()
    moved = _request("ada")
    lines.end_hot(moved, 0.0)
    moved.principal = Principal("other", "ada", "key_ada", frozenset())
    lines.end_hot(moved, 0.0)
    assert [json.loads(line)["tenant"] for line in capfd.readouterr().err.splitlines()] == ["lab", "other"]


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_line_has_the_id_of_its_request_wherever_it_is_written(
    capfd: pytest.CaptureFixture[str], form: Literal["json", "console"]
) -> None:
    """Answers at once end in the context of whoever had the writer called, which is another request at times."""
    configure_logging(LogSettings(level="info", format=form))
    token = REQUEST_ID.set("req_of_another")
    AccessLines(Metrics()).end_hot(_request("ada"), 0.0)
    assert REQUEST_ID.get() == "req_of_another"
    REQUEST_ID.reset(token)
    configure_logging(LogSettings(level="warning", format="json"))
    (line,) = capfd.readouterr().err.splitlines()
    assert "req_1" in line
    assert "req_of_another" not in line
