"""Starting where the zygotes are late."""

import asyncio
import json
from pathlib import Path
from typing import Literal

import pytest

from trainyard.core import errors
from trainyard.core.settings import SandboxSettings
from trainyard.sandbox.backends.base import Layer
from trainyard.sandbox.backends.local import LocalBackend, places

HELD = Layer("seccomp", is_held=True, detail="311 calls are let through")
ANSWER = {
    "layers": [{"name": HELD.name, "is_held": True, "detail": HELD.detail, "is_required": True}],
    "flavor": "lean",
    "refusal": None,
}


async def answer(sockets: Path) -> asyncio.Server:
    """Tell of layers as a zygote does, and make no boxes."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = json.loads(await reader.read(100))
        writer.write(json.dumps(ANSWER if asked["op"] == "layers" else {"error": "full"}).encode() + b"\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    return await asyncio.start_unix_server(one, places.socket_of(sockets, "lean"))


def backend(sockets: Path, enabled: bool | Literal["auto"]) -> LocalBackend:
    return LocalBackend(SandboxSettings(enabled=enabled, warm=0), sockets, has_packages=False, start_s=0.1)


async def test_a_sandbox_that_has_to_be_there_does_not_start_without_a_zygote(tmp_path: Path) -> None:
    with pytest.raises(errors.StartupError) as raised:
        await backend(tmp_path, True).start()

    assert (raised.value.code, raised.value.param) == ("sandbox_not_there", "sandbox.enabled")
    assert "does not answer" in raised.value.message


async def test_a_zygote_that_answers_late_still_tells_of_its_layers(tmp_path: Path) -> None:
    late = backend(tmp_path, "auto")
    await late.start()
    assert list(late.layers()) == []

    async with await answer(tmp_path):
        async with asyncio.timeout(20):
            while not late.layers():  # noqa: ASYNC110 - a zygote has no event
                await asyncio.sleep(0.02)
        assert list(late.layers()) == [HELD]
        await late.aclose()


async def test_an_end_waits_for_no_zygote(tmp_path: Path) -> None:
    late = backend(tmp_path, "auto")
    await late.start()
    async with asyncio.timeout(5):
        await late.aclose()
