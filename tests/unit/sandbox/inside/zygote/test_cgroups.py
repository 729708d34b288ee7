"""Control groups on trees of plain files, laid out as the kernel has them."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from trainyard.sandbox.inside.lockdown.limits import Limits
from trainyard.sandbox.inside.zygote import cgroups
from trainyard.sandbox.inside.zygote.cgroups import Group, Home

LIMITS = Limits(
    memory_bytes=512 << 20,
    processes=64,
    open_files=256,
    workspace_bytes=1 << 20,
    workspace_files=100,
    scratch_bytes=1 << 20,
    spool_bytes=1 << 20,
)
MEMORY = str((512 << 20) + (64 << 20))
PROCESSES = str(64 + 2 + 1)


def mount_line(point: Path, kind: str, options: str) -> str:
    return f"30 25 0:26 / {point} rw,nosuid shared:9 - {kind} {kind} {options}\n"


def v2_tree(root: Path, own: str, controllers: dict[str, str], delegated: dict[str, str]) -> str:
    """A tree with groups along `own`; gives the text of mountinfo."""
    place = root
    for part in ["", *own.strip("/").split("/")]:
        place = place / part
        place.mkdir(exist_ok=True)
        key = "/" + str(place.relative_to(root)) if place != root else "/"
        (place / "cgroup.controllers").write_text(controllers.get(key, ""))
        (place / "cgroup.subtree_control").write_text(delegated.get(key, ""))
    return mount_line(root, "cgroup2", "rw,nsdelegate")


@pytest.fixture
def homes() -> Iterator[list[Home]]:
    """Homes that a test has found; their descriptors are given back."""
    found: list[Home] = []
    yield found
    for home in found:
        for directory in home.directories.values():
            os.close(directory)


def find(homes: list[Home], own: str, mounts: str) -> Home | None:
    home = cgroups.find(own, mounts)
    if home is not None:
        homes.append(home)
    return home


@pytest.mark.parametrize(
    ("delegated", "place"),
    [
        ({"/": "cpu memory pids", "/user": "cpu memory pids", "/user/app": "cpu memory pids"}, "/user/app"),
        ({"/": "cpu memory pids", "/user": "cpu memory pids"}, "/user"),
        ({"/": "cpu memory pids"}, ""),
    ],
)
def test_v2_takes_the_nearest_group_that_delegates(
    homes: list[Home], tmp_path: Path, delegated: dict[str, str], place: str
) -> None:
    controllers = dict.fromkeys(delegated, "cpu io memory pids")
    mounts = v2_tree(tmp_path, "/user/app", controllers, delegated)

    home = find(homes, "0::/user/app\n", mounts)

    assert home is not None
    assert (home.version, home.place) == (2, f"{tmp_path}{place}")


def test_v2_switches_on_what_can_be_switched_on(homes: list[Home], tmp_path: Path) -> None:
    mounts = v2_tree(tmp_path, "/app", {"/": "cpu memory pids", "/app": "cpu memory pids"}, {"/app": "cpu"})

    home = find(homes, "0::/app\n", mounts)

    assert home is not None
    assert home.place == f"{tmp_path}/app"
    assert (tmp_path / "app/cgroup.subtree_control").read_text() == "+memory +pids"


@pytest.mark.parametrize("controllers", ["", "cpu io", "memory cpu", "pids"])
def test_v2_without_memory_and_processes_is_none(homes: list[Home], tmp_path: Path, controllers: str) -> None:
    mounts = v2_tree(tmp_path, "/app", {"/": controllers, "/app": controllers}, {"/": controllers, "/app": controllers})

    assert find(homes, "0::/app\n", mounts) is None


@pytest.mark.parametrize(
    ("version", "controller", "expected"),
    [
        (2, "unified", {"memory.max": MEMORY, "memory.swap.max": "0", "pids.max": PROCESSES, "cpu.weight": "50"}),
        (1, "memory", {"memory.limit_in_bytes": MEMORY, "memory.memsw.limit_in_bytes": MEMORY}),
        (1, "pids", {"pids.max": PROCESSES}),
        (1, "cpu", {"cpu.shares": "512"}),
    ],
)
def test_a_box_is_bounded(version: int, controller: str, expected: dict[str, str]) -> None:
    assert cgroups.bars(version, controller, LIMITS) == expected


def test_the_memory_of_a_box_has_room_for_a_state() -> None:
    bars = cgroups.bars(2, "unified", replace(LIMITS, state_bytes=256 << 20))

    assert bars["memory.max"] == str((512 << 20) + (256 << 20) + (64 << 20))


def test_a_group_that_cannot_be_bounded_is_not_left(homes: list[Home], tmp_path: Path) -> None:
    home = find(homes, *v1_tree(tmp_path, "/job", ("memory", "pids")))
    assert home is not None

    with pytest.raises(FileNotFoundError):  # plain directories have no control files
        Group(home, "box", LIMITS)

    assert not list(tmp_path.rglob("box"))


@pytest.mark.parametrize(
    ("name", "is_removed"),
    [
        (f"{cgroups.NAME}4194305-1", True),  # above the highest pid that Linux has
        (f"{cgroups.NAME}{os.getpid()}-1", False),
        ("somebody-elses", False),
    ],
    ids=["dead", "alive", "foreign"],  # the same in every process that collects
)
def test_groups_of_dead_zygotes_are_swept(homes: list[Home], tmp_path: Path, name: str, is_removed: bool) -> None:
    home = find(homes, *v1_tree(tmp_path, "/job", ("memory", "pids")))
    assert home is not None
    (tmp_path / "memory/job" / name).mkdir()

    is_left = cgroups.sweep(home)

    assert (tmp_path / "memory/job" / name).exists() != is_removed
    assert not is_left


def test_a_box_that_lives_on_is_swept_later(homes: list[Home], tmp_path: Path) -> None:
    home = find(homes, *v1_tree(tmp_path, "/job", ("memory", "pids")))
    assert home is not None
    process = tmp_path / "memory/job" / f"{cgroups.NAME}4194305-1" / "a-process"
    process.mkdir(parents=True)

    before = cgroups.sweep(home)
    process.rmdir()

    assert (before, cgroups.sweep(home)) == (True, False)


def v1_tree(root: Path, own: str, controllers: tuple[str, ...]) -> tuple[str, str]:
    """One hierarchy per controller; gives the texts of /proc/self/cgroup and mountinfo."""
    paths, mounts = "", ""
    for at, controller in enumerate(controllers, start=2):
        (root / controller / own.strip("/")).mkdir(parents=True)
        paths += f"{at}:{controller}:{own}\n"
        mounts += mount_line(root / controller, "cgroup", f"rw,{controller}")
    return paths, mounts


def test_v1_makes_groups_in_each_hierarchy(homes: list[Home], tmp_path: Path) -> None:
    home = find(homes, *v1_tree(tmp_path, "/job", ("memory", "pids", "cpu")))

    assert home is not None
    assert home.version == 1
    assert set(home.directories) == {"memory", "pids", "cpu"}


def test_v1_of_a_container_whose_path_is_not_mounted_takes_the_root(homes: list[Home], tmp_path: Path) -> None:
    paths, mounts = v1_tree(tmp_path, "/", ("memory", "pids"))

    home = find(homes, paths.replace(":/\n", ":/docker/0123\n"), mounts)

    assert home is not None
    assert set(home.directories) == {"memory", "pids"}


@pytest.mark.parametrize("controllers", [(), ("memory",), ("pids", "cpu")])
def test_v1_without_memory_and_processes_is_none(
    homes: list[Home], tmp_path: Path, controllers: tuple[str, ...]
) -> None:
    assert find(homes, *v1_tree(tmp_path, "/job", controllers)) is None


def test_v2_is_preferred_and_a_hybrid_falls_back(homes: list[Home], tmp_path: Path) -> None:
    (tmp_path / "unified").mkdir()
    unified = v2_tree(tmp_path / "unified", "/", {"/": "hugetlb"}, {})
    paths, mounts = v1_tree(tmp_path, "/job", ("memory", "pids", "cpu"))

    home = find(homes, f"{paths}0::/\n", f"{unified}{mounts}")

    assert home is not None
    assert home.version == 1


def test_nothing_is_found_where_nothing_is_mounted() -> None:
    assert cgroups.find("", "") is None
