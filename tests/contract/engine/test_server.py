"""What an engine process does with callers and configurations that are wrong."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.engine.harness import ProcessHarness
from trainyard.engine import protocol
from trainyard.engine.channel import Channel
from trainyard.engine.server_config import EngineServerConfig


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[ProcessHarness]:
    made = ProcessHarness(EngineServerConfig(socket=str(tmp_path / "s"), name="fake", model_dir="", core="fake"))
    await made.restart()
    yield made
    await made.aclose()


async def connected(tmp_path: Path) -> Channel:
    return Channel(*await asyncio.open_unix_connection(tmp_path / "s"))


@pytest.mark.parametrize(
    "raw",
    [
        (protocol.FRAME_BYTES + 1).to_bytes(4, "little"),
        b"GET / HTTP/1.1\r\n\r\n",
        next(protocol.frames(1, protocol.Kind.TOKENS, b"")),
        next(protocol.frames(1, protocol.Kind.CREDIT, b"\xc0")),
    ],
)
async def test_a_caller_that_does_not_speak_the_protocol_is_hung_up_on(
    harness: ProcessHarness, tmp_path: Path, raw: bytes
) -> None:
    reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
    writer.write(raw)
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    assert (await harness.engine.info()).name == "fake"


async def test_a_call_that_cannot_be_read_fails_alone(harness: ProcessHarness, tmp_path: Path) -> None:
    channel = await connected(tmp_path)
    channel.post(5, protocol.Kind.CALL, b"\x81\xa4call\xa7Explode")
    channel.post(0, protocol.Kind.PING)
    answers: list[protocol.Frame] = []
    while len(answers) < 2:
        answers += await channel.receive()
    kinds = {answer.kind: answer for answer in answers}
    assert set(kinds) == {protocol.Kind.ERROR, protocol.Kind.PING}
    assert kinds[protocol.Kind.ERROR].stream == 5
    assert "Explode" in protocol.decode_error(kinds[protocol.Kind.ERROR].payload).message
    await channel.aclose()


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (b"", "truncated"),
        (b'{"socket": "s", "name": "n", "model_dir": "d", "colour": 1}', "colour"),
        (b'{"socket": "s", "name": "n", "model_dir": "/nowhere", "device": "cpu"}', "/nowhere"),
    ],
)
def test_a_configuration_that_cannot_work_is_one_line_and_status_78(given: bytes, why: str) -> None:
    argv = [sys.executable, "-m", "trainyard.engine.server"]
    done = subprocess.run(argv, input=given, capture_output=True, check=False, timeout=60)
    assert done.returncode == 78
    (line,) = done.stderr.splitlines()
    assert why in json.loads(line)["error"]
