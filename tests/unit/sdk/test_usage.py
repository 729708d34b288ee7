"""Every verb about usage on both clients: what goes over the wire, and what comes back."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.unit.sdk.wire import Wire, asynchronous, blocking
from trainyard.sdk import ValidationError
from trainyard.sdk.usage_results import Group, LogEntry, ModelStatistics, Totals, Usage, UsageLog, UsageReport

TOTALS = {"requests": 2, "charged_tokens": 9}
ROW = {**TOTALS, "model": "a/b"}
ME = {"key_id": "key_1", "standings": [], "totals": TOTALS, "by_model": [ROW], "by_day": []}
REPORT = {"window": {"since": 0.0}, "results": [ROW], "totals": TOTALS, "next": None}
LOG = {"window": {"since": 0.0}, "results": [{"entry_id": "use_1", "cached": True}], "next": "abc"}
STATS = {"window": {"since": 0.0}, "totals": {**ROW, "model": None}, "models": [ROW]}

# verb, keyword arguments, request line, answer
VERBS: list[tuple[str, dict[str, Any], str, Any]] = [
    ("usage", {}, "/v1/me/usage", ME),
    ("usage_report", {}, "/v1/admin/usage?group_by=model", REPORT),
    (
        "usage_report",
        {
            "group_by": ("key", "day"), "since": "2026-01-01", "until": datetime(2026, 2, 1, tzinfo=UTC),
            "time_zone": "Europe/Berlin", "tenant": "lab", "key": "key_1", "user": "ada", "model": "a/b", "limit": 5,
            "after": "abc",
        },
        "/v1/admin/usage?group_by=key%2Cday&from=2026-01-01&to=2026-02-01T00%3A00%3A00%2B00%3A00"
        "&time_zone=Europe%2FBerlin&tenant=lab&key=key_1&user=ada&model=a%2Fb&limit=5&after=abc",
        REPORT,
    ),
    ("usage_logs", {}, "/v1/admin/logs", LOG),
    (
        "usage_logs",
        {
            "since": 5.0, "until": 6.0, "tenant": "lab", "key": "key_1", "user": "ada", "model": "m",
            "route": "/v1/generate", "outcome": "done", "limit": 1, "after": "x",
        },
        "/v1/admin/logs?from=5.0&to=6.0&tenant=lab&key=key_1&user=ada&model=m&route=%2Fv1%2Fgenerate&outcome=done"
        "&limit=1&after=x",
        LOG,
    ),
    ("usage_stats", {}, "/v1/admin/stats", STATS),
    ("usage_stats", {"since": 1.0, "until": 2.0, "tenant": "lab"}, "/v1/admin/stats?from=1.0&to=2.0&tenant=lab", STATS),
]  # fmt: skip


@pytest.mark.parametrize(("verb", "kwargs", "line", "answer"), VERBS)
def test_a_blocking_verb_asks_and_reads_the_answer(verb: str, kwargs: dict[str, Any], line: str, answer: Any) -> None:
    wire = Wire(httpx.Response(200, json=answer))
    with blocking(wire) as client:
        assert getattr(client, verb)(**kwargs) == answer
    assert (wire.requests[-1].method, wire.requests[-1].url.raw_path.decode()) == ("GET", line)


@pytest.mark.parametrize(("verb", "kwargs", "line", "answer"), VERBS)
async def test_an_async_verb_asks_the_same(verb: str, kwargs: dict[str, Any], line: str, answer: Any) -> None:
    wire = Wire(httpx.Response(200, json=answer))
    async with asynchronous(wire) as client:
        assert await getattr(client, verb)(**kwargs) == answer
    assert wire.requests[-1].url.raw_path.decode() == line


def test_the_parts_of_answers_are_typed() -> None:
    with blocking(Wire(httpx.Response(200, json=ME))) as client:
        me = client.usage()
    assert (type(me), type(me.totals), type(me.by_model[0]), me.by_model[0].model) == (Usage, Totals, Group, "a/b")
    with blocking(Wire(httpx.Response(200, json=REPORT))) as client:
        report = client.usage_report(["model"])
    assert (type(report), type(report.totals), report.results[0].charged_tokens) == (UsageReport, Totals, 9)
    with blocking(Wire(httpx.Response(200, json=LOG))) as client:
        log = client.usage_logs()
    assert (type(log), type(log.results[0]), log.next) == (UsageLog, LogEntry, "abc")
    with blocking(Wire(httpx.Response(200, json=STATS))) as client:
        stats = client.usage_stats()
    assert (type(stats.totals), type(stats.models[0])) == (ModelStatistics, ModelStatistics)


def test_a_report_comes_as_text_too() -> None:
    wire = Wire(httpx.Response(200, text="model,requests\r\na/b,2\r\n"))
    with blocking(wire) as client:
        assert client.usage_csv(["model"], since=1.0) == "model,requests\r\na/b,2\r\n"
    assert wire.requests[-1].url.raw_path.decode() == "/v1/admin/usage?group_by=model&from=1.0&format=csv"


def test_an_error_in_place_of_text_is_raised() -> None:
    refused = httpx.Response(422, json={"message": "from has to be before to", "code": "validation_error"})
    with blocking(Wire(refused)) as client, pytest.raises(ValidationError, match="before to"):
        client.usage_csv()
