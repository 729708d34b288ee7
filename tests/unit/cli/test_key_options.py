"""Limits and quotas of keys and tenants of a data directory, without a server."""

import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from trainyard.cli import edge, key_view

NO_LIMITS = {"requests": None, "tokens": None, "concurrency": None}
NO_QUOTA = {"tokens": None, "cost_micros": None, "time_zone": None, "day": None, "reset_at": None}


@pytest.fixture
def data(tmp_path: Path, migrated_file: Path) -> list[str]:
    directory = tmp_path / "data"
    directory.mkdir(mode=0o700)
    shutil.copy(migrated_file, directory / "trainyard.db")
    return ["--data-dir", str(directory)]


@pytest.fixture
def answer(capsys: pytest.CaptureFixture[str], data: list[str]) -> Any:
    """Runs a command with `--json` and decodes what it prints."""

    def run(*arguments: str) -> Any:
        assert edge.run([*arguments, *data, "--json"]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    return run


# options, limits, quota
OPTIONS: list[tuple[list[str], dict[str, Any], dict[str, Any]]] = [
    (["--requests", "60"], {"requests": 60}, {}),
    (["--tokens", "1_000", "--concurrency", "unlimited"], {"tokens": 1000, "concurrency": "unlimited"}, {}),
    (["--quota-tokens", "5", "--quota-day", "31"], {}, {"tokens": 5, "day": 31}),
    (["--quota-cost", "12.50", "--quota-zone", "Europe/Berlin"], {}, {"cost_micros": 12_500_000,
                                                                     "time_zone": "Europe/Berlin"}),
    (["--quota-cost", "0.000001"], {}, {"cost_micros": 1}),
    (["--quota-reset-at", "2026-12-01T00:00:00+01:00"], {}, {"reset_at": 1_796_079_600.0}),
    (["--quota-reset-at", "2026-12-01"], {}, {"reset_at": 1_796_083_200.0}),
    (["--quota-reset-at", "1796083200"], {}, {"reset_at": 1_796_083_200.0}),
    (["--requests", "default", "--quota-tokens", "none"], {}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("options", "limits", "quota"), OPTIONS)
def test_limits_and_quotas_are_set_when_a_key_is_made_and_when_it_is_changed(
    answer: Any, options: list[str], limits: dict[str, Any], quota: dict[str, Any]
) -> None:
    made = answer("keys", "create", *options)
    assert (made["limits"], made["quota"]) == (NO_LIMITS | limits, NO_QUOTA | quota)
    other = answer("keys", "create", "--requests", "7", "--quota-tokens", "7")
    changed = answer("keys", "update", other["id"], *options)
    before_limits, before_quota = NO_LIMITS | {"requests": 7}, NO_QUOTA | {"tokens": 7}
    taken_back = {"requests": None} if "default" in options else {}
    none_left = {"tokens": None} if "none" in options else {}
    assert changed["limits"] == before_limits | limits | taken_back
    assert changed["quota"] == before_quota | quota | none_left


def test_an_update_changes_what_it_names_and_nothing_else(answer: Any) -> None:
    made = answer("keys", "create", "--user", "ada", "--scopes", "train", "--expires-s", "60", "--description", "a")
    changed = answer("keys", "update", made["id"], "--description", "b", "--scopes", "train,admin")
    assert (changed["description"], changed["scopes"]) == ("b", ["admin", "train"])
    assert (changed["user_id"], changed["expires_at"]) == ("ada", made["expires_at"])
    assert answer("keys", "update", made["id"], "--expires-s", "never")["expires_at"] is None
    assert answer("keys", "update", made["id"], "--expires-s", "90")["expires_at"] > made["expires_at"]
    assert answer("keys", "show", made["id"])["description"] == "b"


def test_a_rotation_keeps_limits_quota_and_account(answer: Any) -> None:
    made = answer("keys", "create", "--requests", "5", "--quota-cost", "1")
    rotated = answer("keys", "rotate", made["id"])
    assert rotated["account"] == made["id"]
    assert (rotated["limits"], rotated["quota"]) == (made["limits"], made["quota"])


def test_revoking_twice_is_fine_and_the_record_stays(answer: Any) -> None:
    made = answer("keys", "create")
    for _ in range(2):
        assert answer("keys", "revoke", made["id"]) == {"id": made["id"], "revoked": True}
    assert answer("keys", "list") == []
    assert [key["status"] for key in answer("keys", "list", "--status", "all")] == ["revoked"]
    assert answer("keys", "show", made["id"])["revoked_at"] is not None


def test_lists_are_cut_and_say_when_they_go_on(
    answer: Any, capsys: pytest.CaptureFixture[str], data: list[str]
) -> None:
    made = [answer("keys", "create", "--scopes", scopes)["id"] for scopes in ("train", "admin", "train")]
    assert [key["id"] for key in answer("keys", "list", "--scope", "admin")] == made[1:2]
    assert [key["id"] for key in answer("keys", "list", "--offset", "1", "--limit", "2")] == made[1:]
    assert edge.run(["keys", "list", "--limit", "1", *data]) == 0
    assert capsys.readouterr().err == "1 of 3; --offset 1 shows more\n"


def test_tenants_are_set_shown_listed_and_cleared(answer: Any) -> None:
    answer("keys", "create", "--tenant", "lab")
    first = answer("tenants", "set", "lab", "--requests", "9", "--quota-tokens", "8", "--concurrency", "unlimited")
    assert (first["limits"], first["quota"]) == (NO_LIMITS | {"requests": 9}, NO_QUOTA | {"tokens": 8})
    second = answer("tenants", "set", "lab", "--requests", "none", "--tokens", "7")
    assert (second["limits"], second["quota"]) == (NO_LIMITS | {"tokens": 7}, NO_QUOTA | {"tokens": 8})
    assert answer("tenants", "show", "lab") == second
    answer("tenants", "set", "new", "--requests", "1")
    assert [(t["name"], t["key_count"]) for t in answer("tenants", "list")] == [("lab", 1), ("new", 0)]
    assert [t["name"] for t in answer("tenants", "list", "--offset", "1")] == ["new"]
    assert answer("tenants", "clear", "lab")["limits"] == NO_LIMITS


def test_for_people_there_are_tables_and_facts(
    answer: Any, capsys: pytest.CaptureFixture[str], data: list[str]
) -> None:
    made = answer("keys", "create", "--requests", "1000", "--quota-tokens", "2000000", "--quota-cost", "1.5",
                  "--quota-day", "3")  # fmt: skip
    answer("tenants", "set", "default", "--tokens", "5")
    shown = {}
    for words in (["keys", "list"], ["keys", "show", made["id"]], ["keys", "update", made["id"], "--description", "x"],
                  ["tenants", "list"], ["tenants", "show", "default"]):  # fmt: skip
        assert edge.run([*words, *data]) == 0
        shown[" ".join(words[:2])] = capsys.readouterr().out
    head, row = (line.split("\t") for line in shown["keys list"].splitlines())
    cells = dict(zip(head, row, strict=True))
    assert (cells["ID"], cells["LIMITS"]) == (made["id"], "1,000 requests")
    assert cells["QUOTA"] == "2,000,000 tokens, cost 1.50, from day 3"
    facts = dict(re.split(r"  +", line, maxsplit=1) for line in shown["keys show"].splitlines())
    assert (facts["own limits"], facts["limits in effect"]) == ("1,000 requests", "1,000 requests")
    assert facts["own quota"] == "2,000,000 tokens, cost 1.50, from day 3"
    assert facts["quota in effect"] == "2,000,000 tokens, cost 1.50, from day 3, months of UTC"
    assert facts["created_at"].endswith("Z")
    assert "description" in shown["keys update"]
    assert shown["tenants list"].splitlines()[1].split("\t")[:3] == ["default", "1", "5 tokens"]
    assert "key_count" in shown["tenants show"]
    assert re.search(r"^own quota +none$", shown["tenants show"], re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["keys", "create", "--requests", "0"], 2, "--requests"),
        (["keys", "create", "--requests", "many"], 2, "'many' cannot be read"),
        (["keys", "create", "--tokens", "2000000000000000"], 2, "limits.tokens must be a whole number"),
        (["keys", "create", "--quota-cost", "1.0000001"], 2, "--quota-cost"),
        (["keys", "create", "--quota-cost", "inf"], 2, "--quota-cost"),
        (["keys", "create", "--quota-cost", "free"], 2, "--quota-cost"),
        (["keys", "create", "--quota-tokens", "-1"], 2, "quota.tokens"),
        (["keys", "create", "--quota-day", "32"], 2, "from 1 to 31"),
        (["keys", "create", "--quota-zone", "Europe/Berln"], 2, "did you mean Europe/Berlin?"),
        (["keys", "create", "--quota-reset-at", "soon"], 2, "--quota-reset-at"),
        (["keys", "create", "--quota-reset-at", "5", "--quota-day", "1"], 2, "exclude each other"),
        (["keys", "list", "--status", "dead"], 2, "live, active, expired, revoked, all"),
        (["keys", "show", "key_nope"], 4, "There is no key 'key_nope'"),
        (["keys", "update", "key_nope", "--description", "x"], 4, "There is no key 'key_nope'"),
        (["keys", "update", "key_nope"], 2, "nothing to change"),
        (["keys", "update", "key_nope", "--expires-s", "soon"], 2, "no number of seconds"),
        (["tenants", "show", "nope"], 4, "There is no tenant 'nope'"),
        (["tenants", "clear", "nope"], 4, "There is no tenant 'nope'"),
        (["tenants", "set", "nope"], 2, "nothing to set"),
        (["tenants", "set", "a b", "--tokens", "1"], 2, "tenant 'a b' is not usable"),
    ],
)
def test_what_cannot_be_done_says_why(
    capsys: pytest.CaptureFixture[str], data: list[str], arguments: list[str], code: int, says: str
) -> None:
    assert edge.run([*arguments, *data]) == code
    assert says in capsys.readouterr().err


def test_what_was_revoked_or_replaced_is_a_conflict(
    answer: Any, capsys: pytest.CaptureFixture[str], data: list[str]
) -> None:
    made = answer("keys", "create")
    new = answer("keys", "rotate", made["id"])
    assert edge.run(["keys", "rotate", made["id"], *data]) == 5
    assert f"replaced by {new['id']}" in capsys.readouterr().err
    answer("keys", "revoke", new["id"])
    assert edge.run(["keys", "update", new["id"], "--description", "x", *data]) == 5
    assert "was revoked" in capsys.readouterr().err


def test_on_a_terminal_a_key_has_two_lines_that_can_be_copied_whole(answer: Any) -> None:
    answer("keys", "create", "--requests", "5", "--quota-tokens", "9", "--description", "a [b]")
    answer("keys", "create", "--tenant", "laboratory", "--user", "ada", "--scopes", "train")
    found = answer("keys", "list")
    shown = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    key_view.keys(found, out=shown)
    assert isinstance(shown.file, io.StringIO)
    assert shown.file.getvalue().splitlines() == [
        f"{found[0]['id']}  {found[0]['prefix']}  default/admin   active",
        "  scopes all · limits 5 requests · quota 9 tokens · for a [b]",
        f"{found[1]['id']}  {found[1]['prefix']}  laboratory/ada  active",
        "  scopes train",
    ]


@pytest.mark.parametrize(
    ("micros", "text"),
    [(0, "0.00"), (1, "0.000001"), (12_500_000, "12.50"), (1_234_000_000, "1,234.00"), (1_500, "0.0015")],
)
def test_amounts_have_two_decimals_and_more_where_there_are_more(micros: int, text: str) -> None:
    assert key_view.amount(micros) == text


@pytest.mark.parametrize(
    ("quota", "text"),
    [
        ({}, ""),
        ({"day": 3}, ""),
        ({"tokens": 1000}, "1,000 tokens"),
        ({"cost_micros": 5, "reset_at": 0.5}, "cost 0.000005, from 1970-01-01 00:00:00Z"),
    ],
)
def test_a_quota_is_one_cell(quota: dict[str, Any], text: str) -> None:
    assert key_view.quota(NO_QUOTA | quota) == text
