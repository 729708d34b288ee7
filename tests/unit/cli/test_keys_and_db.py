"""Keys and schema of a data directory, without a server."""

import json
from pathlib import Path
from typing import Any

import pytest

from trainyard.cli import edge


@pytest.fixture
def data(tmp_path: Path) -> list[str]:
    return ["--data-dir", str(tmp_path / "data")]


def answer(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> Any:
    assert edge.run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_key_is_made_listed_rotated_and_revoked(capsys: pytest.CaptureFixture[str], data: list[str]) -> None:
    made = answer(capsys, ["keys", "create", *data])
    assert made["key"].startswith("sk-")
    assert (made["tenant"], made["user_id"], len(made["scopes"]), made["expires_at"]) == ("default", "admin", 6, None)
    rotated = answer(capsys, ["keys", "rotate", made["id"], "--overlap-s", "60", *data])
    assert rotated["key"] != made["key"]
    assert [key["id"] for key in answer(capsys, ["keys", "list", *data])] == [made["id"], rotated["id"]]
    assert answer(capsys, ["keys", "revoke", made["id"], *data]) == {"id": made["id"], "revoked": True}
    assert [key["id"] for key in answer(capsys, ["keys", "list", *data])] == [rotated["id"]]


def test_a_key_has_the_owner_and_the_scopes_that_are_asked_for(
    capsys: pytest.CaptureFixture[str], data: list[str]
) -> None:
    wishes = ["--tenant", "acme", "--user", "ada", "--scopes", "train,generate", "--expires-s", "60"]
    made = answer(capsys, ["keys", "create", *wishes, *data])
    assert (made["tenant"], made["user_id"], made["scopes"]) == ("acme", "ada", ["generate", "train"])
    assert made["expires_at"] is not None
    answer(capsys, ["keys", "create", *data])
    assert [key["user_id"] for key in answer(capsys, ["keys", "list", "--tenant", "acme", *data])] == ["ada"]
    assert [key["user_id"] for key in answer(capsys, ["keys", "list", "--user", "admin", *data])] == ["admin"]


def test_the_key_stands_alone_on_standard_output(capsys: pytest.CaptureFixture[str], data: list[str]) -> None:
    assert edge.run(["keys", "create", *data]) == 0
    printed = capsys.readouterr()
    key = printed.out.strip()
    assert key.startswith("sk-")
    assert "\n" not in key
    assert printed.err.endswith(" of default/admin; the key is not shown again\n")
    assert edge.run(["keys", "list", *data]) == 0
    listed = capsys.readouterr().out
    assert key[:11] in listed
    assert key not in listed
    key_id = listed.splitlines()[1].split("\t")[0]
    assert edge.run(["keys", "revoke", key_id, *data]) == 0
    assert f"{key_id} is revoked" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["keys", "revoke", "key_nope"], 4, "There is no key 'key_nope'"),
        (["keys", "rotate", "key_nope"], 4, "There is no key 'key_nope'"),
        (["keys", "create", "--scopes", "everything"], 2, "unknown scope 'everything'"),
        (["keys", "create", "--user", "a b"], 2, "user"),
        (["keys", "create", "--expires-s", "0"], 2, "--expires-s"),
    ],
)
def test_what_cannot_be_done_says_why(
    capsys: pytest.CaptureFixture[str], data: list[str], arguments: list[str], code: int, says: str
) -> None:
    assert edge.run([*arguments, *data]) == code
    assert says in capsys.readouterr().err


def test_db_upgrade_says_from_where_to_where(capsys: pytest.CaptureFixture[str], data: list[str]) -> None:
    first = answer(capsys, ["db", "upgrade", *data])
    assert (first["kind"], first["before"]) == ("sqlite", None)
    assert answer(capsys, ["db", "upgrade", *data])["before"] == first["after"]
    assert edge.run(["db", "upgrade", *data]) == 0
    assert capsys.readouterr().out == f"sqlite: revision {first['after']} (nothing to do)\n"
