"""Talking to a zygote that does not answer as it should."""

import asyncio
import os
from pathlib import Path

import pytest

from trainyard.core import errors
from trainyard.sandbox.backends.base import Layer
from trainyard.sandbox.backends.local.link import Link


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def serve(path: Path, answer: bytes) -> asyncio.Server:
    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    return await asyncio.start_unix_server(one, path)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "in the middle of an answer"),
        (b'{"pid": 1', "in the middle of an answer"),
        (b"nonsense\n", "Expecting value"),
        (b'{"error": "there are 3 boxes already"}\n', "there are 3 boxes already"),
        (b'{"pid": 7}\n', "None"),
    ],
)
async def test_an_answer_without_a_box_is_unavailable(tmp_path: Path, answer: bytes, said: str) -> None:
    path = tmp_path / "z"
    before = descriptors()
    async with await serve(path, answer):
        with pytest.raises(errors.Unavailable) as raised:
            await Link(path).open()

    assert raised.value.code == "sandbox_unavailable"
    assert said in raised.value.message
    assert descriptors() <= before + 1


async def test_nobody_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(errors.Unavailable) as raised:
        await Link(tmp_path / "z").layers()

    assert os.strerror(2) in raised.value.message


async def test_layers_are_read(tmp_path: Path) -> None:
    path = tmp_path / "z"
    layer = b'{"name": "seccomp", "is_held": true, "detail": "allow-list", "is_required": true}'
    async with await serve(path, b'{"layers": [' + layer + b'], "flavor": "lean"}\n'):
        assert await Link(path).layers() == [Layer("seccomp", True, "allow-list")]
