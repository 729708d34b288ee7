import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from trainyard.core import errors
from trainyard.core.db.spool import Spool
from trainyard.core.db.writer import Write


def _list(name: str) -> list[Write]:
    facts = {"name": name, "n": 1, "f": 0.1, "none": None, "yes": True, "raw": b"\x00\xff", "text": "ä\n"}
    return [Write("INSERT …", facts), Write("UPDATE …", {})]


def _read(spool: Spool) -> list[list[Write]]:
    """Replay everything into a list."""
    found: list[list[Write]] = []
    while (some := spool.next(2)) is not None:
        file, lists, position = some
        found += lists
        file.replayed(position)
    return found


def _files(directory: Path) -> list[str]:
    return sorted(path.name.partition("-")[0] + path.suffix for path in directory.iterdir())


def test_lists_come_back_as_they_were_in_their_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    lists = [_list(f"{number}") for number in range(5)]
    spool.append(lists[:2])
    spool.append(lists[2:])
    assert not spool.is_empty
    assert _read(spool) == lists
    assert spool.is_empty
    assert _read(spool) == []


def test_what_is_added_while_it_is_read_is_read_too(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([_list("1"), _list("2"), _list("3")])
    some = spool.next(2)
    assert some is not None
    spool.append([_list("4")])
    some[0].replayed(some[2])
    assert _read(spool) == [_list("3"), _list("4")]


def test_no_file_is_made_before_it_is_needed_and_none_stays_when_it_is_empty(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.adopt()
    assert (spool.is_empty, _files(tmp_path)) == (True, [])
    spool.append([_list("1")])
    assert _files(tmp_path) == ["ledger.spool"]
    assert (next(tmp_path.iterdir()).stat().st_mode & 0o777) == 0o600
    _read(spool)
    spool.close()
    assert _files(tmp_path) == []


def test_what_waits_stays_for_the_next_start(tmp_path: Path) -> None:
    first, second = Spool(tmp_path), Spool(tmp_path)
    first.append([_list("1")])
    assert second.adopt() == 0  # its owner lives
    first.close()
    assert second.adopt() == 1
    assert second.adopt() == 0
    second.append([_list("2")])
    assert _read(second) == [_list("1"), _list("2")]
    second.close()
    assert _files(tmp_path) == []


def test_the_file_of_a_killed_process_is_taken_over_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from trainyard.core.db.spool import Spool; "
        "from trainyard.core.db.writer import Write; spool = Spool(Path(sys.argv[1])); "
        "spool.append([[Write('x', {})]]); os.write(1, b'ready'); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(5) == b"ready"
        mine = Spool(tmp_path)
        assert mine.adopt() == 0
        process.kill()
        process.wait()
    assert mine.adopt() == 1
    assert _read(mine) == [[Write("x", {})]]


@pytest.mark.parametrize("cut_bytes", [1, 5, 30])
def test_a_torn_end_is_ignored_and_what_was_before_is_read(tmp_path: Path, cut_bytes: int) -> None:
    spool = Spool(tmp_path)
    spool.append([_list("1"), _list("2")])
    spool.close()
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-cut_bytes])
    again = Spool(tmp_path)
    again.adopt()
    assert _read(again) == [_list("1")]
    assert _files(tmp_path) == []


@pytest.mark.parametrize("junk", [b"\0" * 4096, b"\xff" * 20, b"\x01"])
def test_what_a_power_cut_leaves_behind_is_no_record(tmp_path: Path, junk: bytes) -> None:
    spool = Spool(tmp_path)
    spool.append([_list("1")])
    spool.close()
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes() + junk)
    again = Spool(tmp_path)
    again.adopt()
    assert _read(again) == [_list("1")]


def test_a_whole_record_that_was_changed_is_put_aside(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([_list("1"), _list("2"), _list("3")])
    spool.close()
    (path,) = tmp_path.iterdir()
    whole = bytearray(path.read_bytes())
    third = len(whole) // 3
    whole[third + 20] ^= 1
    path.write_bytes(whole)
    again = Spool(tmp_path)
    again.adopt()
    assert _read(again) == [_list("1")]
    assert _files(tmp_path) == ["ledger.damaged"]
    assert next(tmp_path.iterdir()).read_bytes() == whole[third:]


def test_a_record_of_another_form_is_put_aside(tmp_path: Path) -> None:
    payload = b"\xa1x"
    (tmp_path / "ledger-1.spool").write_bytes(struct.pack("<II", len(payload), zlib.crc32(payload)) + payload)
    spool = Spool(tmp_path)
    assert spool.adopt() == 1
    assert _read(spool) == []
    assert _files(tmp_path) == ["ledger.damaged"]


def test_what_the_database_will_never_take_is_kept_for_people(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.refuse(_list("1"))
    kept = tmp_path / "ledger.refused"
    assert kept.stat().st_size > 0
    assert (kept.stat().st_mode & 0o777) == 0o600
    spool.append([_list("2")])
    kept.rename(tmp_path / "ledger-refused.spool")  # a person corrected what stood against it
    assert spool.adopt() == 1
    assert sorted(_read(spool), key=str) == [_list("1"), _list("2")]


@pytest.mark.parametrize("value", [object(), 2**70, "\ud800"])
def test_a_value_without_a_place_in_a_record_is_refused_and_nothing_is_written(tmp_path: Path, value: object) -> None:
    spool = Spool(tmp_path)
    spool.append([_list("1")])
    with pytest.raises(errors.InvalidRequest) as caught:
        spool.append([_list("2"), [Write("x", {"v": value})]])
    assert caught.value.code == "unstorable_value"
    assert _read(spool) == [_list("1")]


def test_a_directory_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Spool(tmp_path / "gone").append([_list("1")])


def test_records_survive_a_power_cut_when_asked_to(tmp_path: Path) -> None:
    spool = Spool(tmp_path, sync=True)
    spool.append([_list("1")])
    assert _read(spool) == [_list("1")]
    assert _files(tmp_path) == ["ledger.spool"]
