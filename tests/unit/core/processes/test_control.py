import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from trainyard.core import errors
from trainyard.core.processes import ChildState, ChildStatus, ControlClient, ControlServer, RunFile, runfile

RUN = RunFile(
    pid=12,
    url="http://127.0.0.1:8000",
    started_at=1.5,
    control_socket="c",
    socket_directory="d",
    sockets={"engine:a": "d/a.sock"},
    children=[
        ChildStatus(name="http", state=ChildState.READY, pid=13, restarts=0, essential=True),
        ChildStatus(name="engine:a", state=ChildState.FAILED, pid=None, restarts=4, essential=False, reason="exit 1"),
    ],
)
REFUSED = {
    "unknown": errors.NotFound("there is no child unknown; known: http", code="unknown_child"),
    "broken": errors.Unavailable("broken has failed", code="child_failed"),
}


def check(name: str) -> None:
    if name in REFUSED:
        raise REFUSED[name]


async def ensure(name: str) -> None:
    check(name)


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    server = await asyncio.start_unix_server(ControlServer(lambda: RUN, ensure, check).serve, tmp_path / "control")
    yield tmp_path / "control"
    server.close()
    await server.wait_closed()


async def test_status_is_what_the_supervisor_says(path: Path) -> None:
    assert await ControlClient(path).status() == RUN


async def test_ensure_and_check_return_when_the_child_is_well(path: Path) -> None:
    await ControlClient(path).ensure("http")
    await ControlClient(path).check("http")


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refusal_keeps_its_class_code_and_advice(path: Path, name: str) -> None:
    with pytest.raises(type(REFUSED[name])) as refused:
        await ControlClient(path).ensure(name)
    assert vars(refused.value) == vars(REFUSED[name])


@pytest.mark.parametrize("line", [b"{", b'{"op": "stop"}', b'{"op": "status", "more": 1}', b"[]"])
async def test_a_line_that_is_no_request_is_answered_with_an_error(path: Path, line: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(line + b"\n")
    assert b'"kind":"InvalidRequest"' in await reader.readline()
    writer.close()


async def test_without_a_supervisor_the_answer_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(errors.Unavailable) as away:
        await ControlClient(tmp_path / "nothing").status()
    assert away.value.code == "supervisor_away"


def test_the_run_file_comes_back_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    runfile.write(path, RUN)
    assert runfile.read(path) == RUN
    assert path.stat().st_mode & 0o777 == 0o600
    assert [found.name for found in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("content", [None, b"", b"{}", b"not json"])
def test_a_run_file_that_cannot_be_read_is_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "run.json"
    if content is not None:
        path.write_bytes(content)
    assert runfile.read(path) is None
