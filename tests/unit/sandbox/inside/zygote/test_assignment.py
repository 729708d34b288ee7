"""What a zygote is told, and what comes of it."""

from pathlib import Path

import pytest

from trainyard.core import errors
from trainyard.core.settings import SandboxLimits, SandboxSettings, ServerSettings, Settings
from trainyard.sandbox.backends.local import places
from trainyard.sandbox.inside import scene
from trainyard.sandbox.inside.zygote import assignment, identity


def settings(tmp_path: Path, **sandbox: object) -> Settings:
    return Settings(data_dir=tmp_path, sandbox=SandboxSettings.model_validate(sandbox))


def test_an_assignment_comes_back_as_it_was_written(tmp_path: Path) -> None:
    made = places.assignment(settings(tmp_path), "lean", None, tmp_path / "z.sock", ("/etc/alternatives", "/etc/R"))

    assert assignment.decode(made.encode()) == made


@pytest.mark.parametrize("message", [b"", b"[]", b"{}", b'{"limits": {}, "etc": []}', b'{"limits": 1, "etc": []}'])
def test_what_is_no_assignment_is_refused(message: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        assignment.decode(message)


def test_flavours_share_no_user_id(tmp_path: Path) -> None:
    ranges = []
    for flavor in places.FLAVORS:
        made = places.assignment(settings(tmp_path, first_uid=70_000), flavor, None, None)
        ranges.append(range(made.first_uid, made.first_uid + made.uids))

    assert (ranges[0].start, ranges[1].stop) == (70_000, 70_000 + 65_536)
    assert ranges[0].stop <= ranges[1].start


def test_limits_are_those_of_the_settings(tmp_path: Path) -> None:
    limits = SandboxLimits(memory_bytes=128 << 20, processes=10, open_files=64, workspace_bytes=1 << 20)
    made = places.assignment(settings(tmp_path, limits=limits.model_dump()), "lean", None, None).limits

    assert (made.memory_bytes, made.processes, made.open_files, made.workspace_bytes) == (128 << 20, 10, 64, 1 << 20)
    assert made.spool_bytes >= limits.state_bytes + 2 * limits.log_bytes, "a state and both outputs at once"
    assert made.spool_bytes >= 2 * limits.state_bytes, "a state, and one that restored arrays are views of"
    assert made.state_bytes == limits.state_bytes


def test_boxes_of_all_http_processes_fit(tmp_path: Path) -> None:
    several = Settings(data_dir=tmp_path, server=ServerSettings(workers=3), sandbox=SandboxSettings(max_boxes=7))

    assert places.assignment(several, "lean", None, None).max_boxes == 21


@pytest.mark.parametrize("place", ["/usr/local/data", "/usr", "{prefix}/data"])
def test_a_data_directory_that_boxes_could_read_is_refused(place: str) -> None:
    prefix = Path(places.command(None)[0]).parent.parent
    refused = Settings(data_dir=Path(place.format(prefix=prefix)))

    with pytest.raises(errors.ConfigError) as raised:
        places.assignment(refused, "lean", None, None)

    assert raised.value.param == "data_dir"


def test_the_interpreter_is_not_that_of_an_environment() -> None:
    program = Path(places.command(None)[0])

    assert not (program.parent.parent / "pyvenv.cfg").exists()
    assert places.command(None)[1:3] == ("-I", "-S")


def test_user_ids_go_round_and_skip_those_in_use() -> None:
    ids = identity.HostIds(first=100, count=3, start=5)

    assert [ids.take(set()) for _ in range(4)] == [102, 100, 101, 102]
    assert ids.take({100, 101}) == 102
    with pytest.raises(OSError, match="all 3 user ids"):
        ids.take({100, 101, 102})


WHOLE = "         0          0 4294967295\n"
CONTAINER = "         0       1000          1\n         1     100000      65536\n"


@pytest.mark.parametrize(
    ("first", "uid_map", "gid_map", "are"),
    [
        (1_700_000_000, WHOLE, WHOLE, True),
        (1_700_000_000, CONTAINER, CONTAINER, False),
        (1_700_000_000, WHOLE, CONTAINER, False),
        (1, CONTAINER, CONTAINER, True),
        (0, CONTAINER, CONTAINER, False),
        (32_769, CONTAINER, CONTAINER, True),
        (32_770, CONTAINER, CONTAINER, False),
        (5, "", "", False),
    ],
)
def test_ids_are_those_that_exist_here(first: int, uid_map: str, gid_map: str, are: bool) -> None:
    assert identity.are_mapped(first, 32_768, uid_map, gid_map) == are


@pytest.mark.parametrize(
    ("prefix", "packages", "trees", "covered"),
    [
        ("/usr", None, [], ()),
        ("/usr/local", "/usr/share/env", [], ()),
        ("/opt/python", "/srv/env", ["/opt/python", "/srv/env"], ()),
        ("/opt/python", "/mnt/data/env", ["/opt/python", "/mnt/data/env"], ("/mnt/data/env",)),
        ("/mnt/database", None, ["/mnt/database"], ()),
    ],
)
def test_trees_of_the_host_are_seen_once(
    prefix: str, packages: str | None, trees: list[str], covered: tuple[str, ...]
) -> None:
    made = scene.Plan("/usr/bin/python3", "3.11", [prefix], packages, None, "/x/cloudpickle", [])

    assert (made.trees, made.covered_trees) == (trees, covered)
