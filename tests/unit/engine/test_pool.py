import os
from pathlib import Path

import pytest

from trainyard.core import errors
from trainyard.core.datadir import SOCKET_PATH_BYTES
from trainyard.engine import addresses
from trainyard.engine.pool import EnginePool


class Asked:
    """A supervisor that has children of these names, some of which have failed for good."""

    def __init__(self, *names: str, failed: tuple[str, ...] = ()) -> None:
        self.names = names
        self.failed = failed
        self.asked: list[str] = []

    def pool(self, directory: Path) -> EnginePool:
        return EnginePool(directory, self.ensure, self.check)

    async def check(self, name: str) -> None:
        if name in self.failed:
            raise errors.Unavailable(f"{name} has failed: 5 crashes", code="child_failed")

    async def ensure(self, name: str) -> None:
        self.asked.append(name)
        if name not in self.names:
            raise errors.NotFound(f"there is no child {name}", code="unknown_child")


async def test_an_engine_without_a_socket_is_asked_for_and_then_kept(tmp_path: Path) -> None:
    asked = Asked("engine:org/model")
    pool = asked.pool(tmp_path)
    first = await pool.get("org/model")
    assert asked.asked == ["engine:org/model"]
    addresses.socket_path(tmp_path, "org/model").touch()
    assert await pool.get("org/model") is first
    assert asked.asked == ["engine:org/model"]
    await pool.aclose()


async def test_a_model_that_the_supervisor_does_not_know_is_unavailable(tmp_path: Path) -> None:
    pool = Asked().pool(tmp_path)
    with pytest.raises(errors.Unavailable) as away:
        await pool.get("org/model")
    assert away.value.code == "engine_not_configured"


async def test_a_socket_that_nobody_listens_on_is_an_engine_that_restarts(tmp_path: Path) -> None:
    addresses.socket_path(tmp_path, "m").touch()
    engine = await Asked().pool(tmp_path).get("m")
    with pytest.raises(errors.Unavailable) as away:
        await engine.info()
    assert (away.value.code, away.value.retry_after_s) == ("engine_restarting", 1.0)


async def test_a_socket_of_an_engine_that_has_failed_says_so_and_promises_nothing(tmp_path: Path) -> None:
    addresses.socket_path(tmp_path, "m").touch()
    engine = await Asked(failed=("engine:m",)).pool(tmp_path).get("m")
    with pytest.raises(errors.Unavailable) as away:
        await engine.info()
    assert (away.value.code, away.value.retry_after_s) == ("engine_failed", None)


@pytest.mark.parametrize(
    ("model", "readable"),
    [
        ("trainyard/pocket", "trainyard-pocket"),
        ("pocket", "pocket"),
        ("../../etc/passwd", "etc-passwd"),
        ("x" * 200, "x" * 24),
        ("ümläut", "ml-ut"),
    ],
)
def test_a_socket_is_named_after_its_model_inside_the_directory(model: str, readable: str) -> None:
    path = addresses.socket_path(Path("/somewhere/trainyard-12345678"), model)
    assert path.parent == Path("/somewhere/trainyard-12345678")
    assert path.name.rpartition("-")[0] == readable
    assert len(os.fsencode(path)) <= SOCKET_PATH_BYTES


def test_models_with_the_same_end_have_sockets_of_their_own() -> None:
    directory = Path("d")
    assert addresses.socket_path(directory, "a/" + "x" * 30) != addresses.socket_path(directory, "b/" + "x" * 30)
