"""Ids of sessions and files."""

import re

from trainyard.sandbox.store.ids import new_id


def test_an_id_is_what_librechats_client_checks() -> None:
    drawn = [new_id() for _ in range(5_000)]
    assert [one for one in drawn if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{19}[A-Za-z0-9]", one)] == []


def test_no_id_is_drawn_twice_and_all_characters_are() -> None:
    drawn = [new_id() for _ in range(5_000)]
    assert len(set(drawn)) == len(drawn)
    assert len(set("".join(drawn))) == 64
