import csv
import io
from typing import Any

import pytest
from msgspec import structs
from sqlalchemy import text

from tests.contract.core.ledger.entries import entry
from tests.unit.core.http.usage.conftest import START, Office
from trainyard.core.db import Database
from trainyard.core.ledger.reports import MAX_PAGE
from trainyard.core.ledger.store import rows

_USAGE, _LOGS, _STATS = "/v1/admin/usage", "/v1/admin/logs", "/v1/admin/stats"


def test_usage_is_of_this_month_in_the_servers_zone_by_model(office: Office) -> None:
    office.used(office.ada)
    office.used(office.ada, at=START - 13 * 3600 - 1)  # 2025-12-31 23:59:59 in Berlin
    office.used(office.boss, model="big", cached=True, charged_tokens=0, cost_micros=0)
    answer = office.get(office.boss, _USAGE).json()
    assert answer["window"] == {"since": START - 13 * 3600, "until": START + 1, "time_zone": "Europe/Berlin"}
    assert [(row["model"], row["requests"], row["charged_tokens"]) for row in answer["results"]] == [
        ("big", 1, 0),
        ("pocket", 1, 30),
    ]
    assert answer["results"][0]["key_id"] is None
    assert answer["totals"] == {
        "requests": 2,
        "cached_requests": 1,
        "prompt_tokens": 20,
        "cached_tokens": 8,
        "completion_tokens": 40,
        "total_tokens": 60,
        "charged_tokens": 30,
        "cost_micros": 7,
        "seconds": 1.0,
        "cpu_s": 0.0,
        "bytes_in": 0,
        "bytes_out": 0,
    }
    assert answer["next"] is None


@pytest.mark.parametrize("query", [{"group_by": "day,key"}, {"group_by": ["day", "key"]}])
def test_groups_are_named_once_or_with_commas(office: Office, query: dict[str, Any]) -> None:
    office.used(office.ada)
    (row,) = office.get(office.root, _USAGE, **query).json()["results"]
    assert (row["day"], row["key_id"], row["model"]) == ("2026-01-01", office.ada.record.id, None)


def test_pages_follow_each_other(office: Office) -> None:
    for number in range(5):
        office.used(office.ada, model=f"m{number}")
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = office.get(office.boss, _USAGE, limit=2, **after).json()
        seen += [row["model"] for row in page["results"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert seen == [f"m{number}" for number in range(5)]


def test_an_operator_sees_all_tenants_and_an_administrator_his_own(office: Office) -> None:
    office.used(office.ada)
    office.used(office.root)
    tenants = [row["tenant"] for row in office.get(office.root, _USAGE, group_by="tenant").json()["results"]]
    assert tenants == ["default", "lab"]
    for path in (_USAGE, _STATS):
        assert office.get(office.root, path).json()["totals"]["requests"] == 2
        assert office.get(office.root, path, tenant="lab").json()["totals"]["requests"] == 1
        assert office.get(office.boss, path).json()["totals"]["requests"] == 1
        assert office.get(office.boss, path, tenant="lab").json()["totals"]["requests"] == 1
        assert office.get(office.boss, path, tenant="default").status_code == 404
    assert len(office.get(office.root, _LOGS).json()["results"]) == 2
    assert len(office.get(office.boss, _LOGS).json()["results"]) == 1
    assert office.get(office.boss, _LOGS, tenant="default").json()["code"] == "not_found"


@pytest.mark.parametrize("path", [_USAGE, _LOGS, _STATS])
def test_who_is_no_administrator_sees_nothing(office: Office, path: str) -> None:
    assert office.get(office.ada, path).json()["code"] == "missing_scope"
    assert office.http.get(path).status_code == 401


def test_csv_has_every_row_and_no_formula(office: Office) -> None:
    for name in ('=HYPERLINK("http://x")', "+1", "-1", "@SUM(A1)", "\tx", "plain", 'quo"ted, name', "＝1"):
        office.used(office.ada, model=name)
    answer = office.get(office.boss, _USAGE, group_by="model,user", format="csv")
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="usage.csv"'
    assert answer.text.endswith("\r\n")
    head, *rows = csv.reader(io.StringIO(answer.text, newline=""))
    assert head == [
        *("model", "user_id", "requests", "cached_requests", "prompt_tokens", "cached_tokens", "completion_tokens"),
        *("charged_tokens", "cost_micros", "seconds", "cpu_s", "bytes_in", "bytes_out"),
    ]
    assert {row[0] for row in rows} == {
        *("""'=HYPERLINK("http://x")""", "'+1", "'-1", "'@SUM(A1)", "'\tx", "plain", 'quo"ted, name', "'＝1"),
    }
    assert {tuple(row[1:]) for row in rows} == {("ada", "1", "0", "10", "4", "20", "30", "7", "0.5", "0.0", "0", "0")}


def test_csv_goes_on_over_the_pages_of_the_database(office: Office, database: Database) -> None:
    with database.begin() as connection:
        for number in range(MAX_PAGE + 2):
            one = structs.asdict(entry(f"{number}", at=START, model=f"m{number:04}"))
            connection.execute(text(rows.INSERT), one)
    models = [line.partition(",")[0] for line in office.get(office.boss, _USAGE, format="csv").text.splitlines()[1:]]
    assert models == [f"m{number:04}" for number in range(MAX_PAGE + 2)]


def test_csv_of_nothing_is_a_head(office: Office) -> None:
    assert office.get(office.boss, _USAGE, format="csv").text.count("\r\n") == 1


def test_json_and_csv_say_the_same(office: Office) -> None:
    for number in range(7):
        office.used(office.ada, model=f"m{number % 3}", seconds=0.125 * number)
    rows = office.get(office.boss, _USAGE).json()["results"]
    lines = list(csv.DictReader(io.StringIO(office.get(office.boss, _USAGE, format="csv").text)))
    assert [{name: str(row[name]) for name in lines[0]} for row in rows] == lines


def test_the_log_shows_requests_newest_first_without_their_words(office: Office) -> None:
    office.used(office.ada, request_id="req_first")
    office.clock.advance(1)
    office.used(office.boss, request_id="req_second", outcome="failed", route="/v1/stream")
    answer = office.get(office.boss, _LOGS).json()
    assert [one["request_id"] for one in answer["results"]] == ["req_second", "req_first"]
    assert set(answer["results"][0]) == {
        *("entry_id", "at", "tenant", "user_id", "key_id", "request_id", "route", "model", "outcome", "cached"),
        *("prompt_tokens", "cached_tokens", "completion_tokens", "charged_tokens", "cost_micros", "seconds"),
    }
    first = office.get(office.boss, _LOGS, limit=1).json()
    second = office.get(office.boss, _LOGS, limit=1, after=first["next"]).json()
    assert [one["request_id"] for one in first["results"] + second["results"]] == ["req_second", "req_first"]
    assert second["next"] is None


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"model": "big"}, 1),
        ({"user": "boss"}, 1),
        ({"route": "/v1/stream"}, 1),
        ({"outcome": "cancelled"}, 1),
        ({"outcome": "done"}, 2),
        ({"from": START + 1}, 2),
        ({"to": "2026-01-01T12:00:01Z"}, 1),
        ({"to": "2026-01-01"}, 0),
        ({"from": "2026-01-01"}, 3),
    ],
)
def test_the_log_is_filtered(office: Office, query: dict[str, Any], count: int) -> None:
    for facts in ({}, {"model": "big", "route": "/v1/stream"}, {"outcome": "cancelled", "user": "boss"}):
        office.used(office.ada, **facts)
        office.clock.advance(1)
    assert len(office.get(office.boss, _LOGS, **query).json()["results"]) == count


def test_one_key_is_filtered_by_its_id(office: Office) -> None:
    office.used(office.ada)
    office.used(office.boss)
    assert office.get(office.boss, _USAGE, key=office.ada.record.id).json()["totals"]["requests"] == 1
    (one,) = office.get(office.boss, _LOGS, key=office.ada.record.id).json()["results"]
    assert one["key_id"] == office.ada.record.id


def test_statistics_tell_shares_and_seconds(office: Office) -> None:
    for seconds, cached in ((1.0, False), (2.0, False), (3.0, False), (0.0, True)):
        office.used(office.ada, seconds=seconds, cached=cached)
    answer = office.get(office.boss, _STATS).json()
    (model,) = answer["models"]
    assert answer["totals"] == {**model, "model": None}
    assert (model["model"], model["requests"], model["cached_share"]) == ("pocket", 4, 0.25)
    assert (model["mean_s"], model["p50_s"], model["p95_s"]) == (1.5, 1.0, 3.0)
    assert answer["window"]["since"] == START + 1 - 30 * 86_400 - 1


def test_statistics_of_nothing_are_zero(office: Office) -> None:
    answer = office.get(office.boss, _STATS).json()
    assert (answer["models"], answer["totals"]["cached_share"], answer["totals"]["p95_s"]) == ([], 0.0, 0.0)


@pytest.mark.parametrize(
    ("path", "query", "param", "says"),
    [
        (_USAGE, {"group_by": "colour"}, "group_by[0]", "'key', 'tenant', 'user', 'model' or 'day'"),
        (_USAGE, {"group_by": "model,model"}, "group_by", "twice"),
        (_USAGE, {"from": "yesterday"}, "from", "2026-01-31"),
        (_USAGE, {"to": "9999999999999"}, "to", "1970 to 2099"),
        (_USAGE, {"to": "nan"}, "to", "1970 to 2099"),
        (_USAGE, {"from": "-5"}, "from", "1970 to 2099"),
        (_USAGE, {"from": "0001-01-01"}, "from", "1970 to 2099"),
        (_USAGE, {"from": "2026-01-02", "to": "2026-01-01"}, "from", "before to"),
        (_USAGE, {"from": "2024-01-01", "to": "2026-01-01"}, "from", "400 at most"),
        (_USAGE, {"time_zone": "Mars/Base"}, "time_zone", "Europe/Berlin"),
        (_USAGE, {"limit": 0}, "limit", "greater than or equal to 1"),
        (_USAGE, {"limit": 1001}, "limit", "less than or equal to 1000"),
        (_USAGE, {"format": "xml"}, "format", "'json' or 'csv'"),
        (_USAGE, {"format": "csv", "limit": 5}, "format", "leave out limit"),
        (_USAGE, {"after": "x"}, "after", "next"),
        (_USAGE, {"model": "m" * 256}, "model", "255"),
        (_LOGS, {"limit": 201}, "limit", "200"),
        (_LOGS, {"outcome": "lost"}, "outcome", "'done', 'cancelled' or 'failed'"),
        (_LOGS, {"after": "x"}, "after", "next"),
        (_STATS, {"from": "2024-01-01"}, "from", "400 at most"),
    ],
)
def test_a_bad_parameter_is_named_with_what_would_be_right(
    office: Office, path: str, query: dict[str, Any], param: str, says: str
) -> None:
    answer = office.get(office.root, path, **query)
    assert answer.status_code == 422
    assert answer.json()["error"]["param"] == param
    assert says in answer.json()["message"]


@pytest.mark.parametrize(
    ("path", "query", "says"),
    [
        (_USAGE, "tennant", "tennant: unknown parameter; did you mean 'tenant'?"),
        (_USAGE, "x", "x: unknown parameter; valid: group_by"),
        ("/v1/admin/logs", "outcomes", "did you mean 'outcome'?"),
        ("/v1/admin/stats", "tenants", "did you mean 'tenant'?"),
    ],
)
def test_a_filter_that_would_not_filter_is_refused(office: Office, path: str, query: str, says: str) -> None:
    answer = office.get(office.root, path, **{query: "lab"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, query)
    assert says in answer.json()["message"]
