"""`trainyard usage` against a server of canned answers."""

import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from rich.console import Console

from trainyard.cli import edge, usage_view
from trainyard.sdk import results
from trainyard.sdk.usage_results import LogEntry

SUMS = {
    "requests": 1200, "cached_requests": 3, "prompt_tokens": 4, "cached_tokens": 0, "completion_tokens": 5,
    "total_tokens": 9, "charged_tokens": 8, "cost_micros": 2_500_000, "seconds": 1.5,
}  # fmt: skip
SUM_CELLS = ["1,200", "3", "4", "5", "8", "2.50"]
WINDOW = {"since": 0.0, "until": 1.0, "time_zone": "UTC"}
ME: dict[str, Any] = {
    "key_id": "key_1", "tenant": "lab", "user_id": "ada", "period": WINDOW, "totals": SUMS,
    "by_model": [{**SUMS, "model": "a/b"}], "by_day": [],
    "standings": [
        {
            "scope": "key", "name": "key_1",
            "limits": {"requests": 60, "tokens": None, "concurrency": 2, "window_s": 60.0},
            "quota": {
                "tokens": {"limit": 1000, "used": 10, "left": 990},
                "cost_micros": {"limit": 5_000_000, "used": 2_500_000, "left": 2_500_000},
                "since": 0.0, "resets_at": 1_796_083_200.0, "time_zone": "UTC",
            },
        },
        {
            "scope": "tenant", "name": "lab",
            "limits": {"requests": None, "tokens": None, "concurrency": None, "window_s": 60.0},
            "quota": {"tokens": None, "cost_micros": None, "since": 0.0, "resets_at": 9.0, "time_zone": "UTC"},
        },
    ],
}  # fmt: skip
ENTRY = {
    "entry_id": "use_1", "at": 1_796_083_200.0, "tenant": "lab", "user_id": "ada", "key_id": "key_1",
    "request_id": "req_1", "route": "/v1/generate", "model": "a/b", "outcome": "done", "cached": True,
    "prompt_tokens": 4, "cached_tokens": 0, "completion_tokens": 5, "charged_tokens": 0, "cost_micros": 0,
    "seconds": 0.25,
}  # fmt: skip
ROW = {**SUMS, "model": "a/b", "day": "2026-01-31", "key_id": None, "tenant": None, "user_id": None}
STATISTICS = {**SUMS, "cached_share": 0.25, "mean_s": 0.5, "p50_s": 0.4, "p95_s": 0.9}

Pages = dict[str, list[dict[str, Any]]]


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def server(asked: list[str]) -> Iterator[str]:
    """Answers by path; a list of pages in order."""
    pages: Pages = {
        "/v1/me/usage": [ME],
        "/v1/admin/usage": [
            {"window": WINDOW, "results": [ROW], "totals": SUMS, "next": "more"},
            {"window": WINDOW, "results": [ROW], "totals": SUMS, "next": None},
        ],
        "/v1/admin/logs": [
            {"window": WINDOW, "results": [ENTRY], "next": "more"},
            {"window": WINDOW, "results": [ENTRY], "next": "more"},
        ],
        "/v1/admin/stats": [
            {"window": WINDOW, "totals": {**STATISTICS, "model": None}, "models": [{**STATISTICS, "model": "a/b"}]}
        ],
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            content = (
                b"model,requests\r\na/b,2\r\n"
                if "format=csv" in self.path
                else json.dumps(pages[self.path.partition("?")[0]].pop(0)).encode()
            )
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def lines_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[list[str]]:
    assert edge.run(arguments) == 0, capsys.readouterr().err
    return [line.split("\t") for line in capsys.readouterr().out.splitlines()]


def test_your_own_usage_shows_limits_quota_and_sums(capsys: pytest.CaptureFixture[str], server: str) -> None:
    shown = lines_of(capsys, "usage", "--url", server, "--key", "sk-x")
    assert shown == [
        ["key_1 of lab/ada"],
        ["BARS OF", "REQUESTS", "TOKENS", "AT ONCE", "QUOTA TOKENS", "QUOTA COST", "RESETS"],
        ["key", "60 / 60 s", "", "2", "10 of 1,000", "2.50 of 5.00", "2026-12-01 00:00:00Z"],
        [""],
        ["MODEL", "REQUESTS", "CACHED", "PROMPT", "COMPLETION", "CHARGED", "COST"],
        ["a/b", *SUM_CELLS],
        ["all", *SUM_CELLS],
    ]


def test_without_bars_there_is_a_sentence_in_place_of_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    usage_view.own(results.decode(json.dumps({**ME, "standings": ME["standings"][1:]})))
    assert capsys.readouterr().out.splitlines()[1] == "no limits and no quota, neither of the key nor of its tenant"


def test_on_a_terminal_a_request_is_two_lines_that_can_be_copied() -> None:
    shown = Console(file=io.StringIO(), force_terminal=True, width=60, color_system=None)
    usage_view.logs([LogEntry(ENTRY | {"cached": cached}) for cached in (True, False)], out=shown)
    assert isinstance(shown.file, io.StringIO)
    counts = "  9 tokens, 0 charged · cost 0.00 · 0.250 s · lab/ada · key_1 · req_1"
    assert shown.file.getvalue().splitlines() == [
        "2026-12-01 00:00:00Z  a/b  /v1/generate  done, from the cache",
        counts,
        "2026-12-01 00:00:00Z  a/b  /v1/generate  done",
        counts,
    ]


def test_a_report_has_all_pages_and_a_last_line_of_totals(
    capsys: pytest.CaptureFixture[str], server: str, asked: list[str]
) -> None:
    words = ["usage", "report", "--by", "model, day", "--from", "2026-01-01", "--to", "5", "--zone", "UTC", "--tenant",
             "lab", "--key-id", "key_1", "--user", "ada", "--model", "a/b", "--url", server]  # fmt: skip
    shown = lines_of(capsys, *words)
    row = ["a/b", "2026-01-31", *SUM_CELLS]
    assert shown[0][:2] == ["MODEL", "DAY"]
    assert shown[1:] == [row, row, ["all", "", *SUM_CELLS]]
    window = "group_by=model%2Cday&from=2026-01-01&to=5&time_zone=UTC"
    query = f"/v1/admin/usage?{window}&tenant=lab&key=key_1&user=ada&model=a%2Fb"
    assert asked == [query, query + "&after=more"]


def test_a_report_comes_as_comma_separated_values(capsys: pytest.CaptureFixture[str], server: str) -> None:
    assert edge.run(["usage", "report", "--csv", "--url", server]) == 0
    assert capsys.readouterr().out.splitlines() == ["model,requests", "a/b,2"]


def test_logs_go_on_until_enough_are_listed(capsys: pytest.CaptureFixture[str], server: str, asked: list[str]) -> None:
    shown = lines_of(capsys, "usage", "logs", "--limit", "2", "--outcome", "done", "--url", server)
    assert asked == [
        "/v1/admin/logs?outcome=done&limit=2",
        "/v1/admin/logs?outcome=done&limit=1&after=more",
    ]
    cells = ["2026-12-01 00:00:00Z", "req_1", "lab", "ada", "key_1", "a/b", "/v1/generate", "done", "yes", "9", "0",
             "0.00", "0.250"]  # fmt: skip
    assert shown[1:] == [cells, cells]


def test_statistics_have_a_line_for_each_model_and_one_for_all(capsys: pytest.CaptureFixture[str], server: str) -> None:
    shown = lines_of(capsys, "usage", "stats", "--url", server)
    cells = [*SUM_CELLS, "25.0", "0.500", "0.400", "0.900"]
    assert shown[1:] == [["a/b", *cells], ["all", *cells]]


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        ([], ME),
        (["report"], {"window": WINDOW, "results": [ROW, ROW], "totals": SUMS}),
        (["logs", "--limit", "1"], [ENTRY]),
        (["stats"], {"window": WINDOW, "totals": {**STATISTICS, "model": None},
                     "models": [{**STATISTICS, "model": "a/b"}]}),
    ],
)  # fmt: skip
def test_each_prints_one_json_value_when_asked(
    capsys: pytest.CaptureFixture[str], server: str, words: list[str], facts: Any
) -> None:
    assert edge.run(["usage", *words, "--url", server, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == facts


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["usage", "--url", "http://127.0.0.1:9"], 7, "no connection"),
        (["usage", "--json", "stats"], 2, "behind 'stats'"),
        (["usage", "report", "--csv", "--json"], 2, "exclude each other"),
        (["usage", "logs", "--limit", "0"], 2, "--limit"),
    ],
)
def test_what_cannot_be_done_says_why(
    capsys: pytest.CaptureFixture[str], words: list[str], code: int, says: str
) -> None:
    assert edge.run(words) == code
    assert says in capsys.readouterr().err
