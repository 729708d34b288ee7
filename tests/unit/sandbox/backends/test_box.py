"""A box whose runner was taken over: whatever it says, the server gives it up and goes on."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from trainyard.core import errors
from trainyard.sandbox.backends.box import RunnerBox
from trainyard.sandbox.inside import frames
from trainyard.sandbox.types.orders import Order

Use = Callable[[RunnerBox], Awaitable[object]]
STREAM = {"kept_bytes": 0, "head_bytes": 0, "total_bytes": 0}
REPORT = {
    "event": "done", "exit_code": 0, "signal": None, "reason": None, "phase": "run", "wall_s": 0.1, "cpu_s": 0.1,
    "peak_memory_bytes": 1, "stdout": STREAM, "stderr": STREAM, "results": [], "changed": [], "deleted": [],
    "skipped": [], "variables": 0, "is_fresh": True, "was_reset": False,
}  # fmt: skip


async def _run(box: RunnerBox) -> object:
    return await box.run(Order(code="1", timeout_s=0.05))


async def _put(box: RunnerBox) -> None:
    await box.put("data", "a", 3 << 20, _content(3 << 20))


async def _content(size: int) -> AsyncIterator[bytes]:
    yield bytes(size)


async def _get(box: RunnerBox) -> bytes:
    return b"".join([piece async for piece in box.get("data", "a")])


async def _serve(runner: socket.socket, answers: list[bytes]) -> None:
    """Read an order, say what was prepared, and read on, as often as there is something to say."""
    loop = asyncio.get_running_loop()
    for answer in answers:
        await loop.sock_recv(runner, 1 << 20)
        await loop.sock_sendall(runner, answer)


async def _outcome(use: Use, *answers: bytes, is_deaf: bool = False) -> errors.TrainyardError:
    ours, theirs = socket.socketpair()
    ended = asyncio.Event()

    async def end() -> None:
        ended.set()

    with theirs:
        theirs.setblocking(False)
        box = await RunnerBox.connect(ours, "box", end, overdue_s=0.1 if is_deaf else 20.0)
        serving = asyncio.create_task(_serve(theirs, list(answers)))
        async with asyncio.timeout(10):
            with pytest.raises(errors.TrainyardError) as caught:
                await use(box)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        assert not box.is_alive
        await box.close()
    return caught.value


def _raw(header: bytes, payload: bytes = b"") -> bytes:
    return frames.LENGTHS.pack(len(header), len(payload)) + header + payload


def _done(**facts: object) -> bytes:
    return _raw(json.dumps({"id": 1, "event": "done", **facts}).encode())


@pytest.mark.parametrize(
    "use", [_run, _put, _get, RunnerBox.accept, RunnerBox.usage, RunnerBox.reset, lambda box: box.delete("data", "a")]
)
async def test_one_that_answers_nothing_is_given_up(use: Use) -> None:
    error = await _outcome(use, is_deaf=True)
    assert error.code == "box_gone"


@pytest.mark.parametrize(
    ("use", "answer"),
    [
        (_run, _raw(b'{"id": [1], "event": "done"}')),
        (_run, _raw(b'{"id": {}, "event": "out"}')),
        (_run, _raw(b"[" * 100_000)),
        (_run, _raw(b'{"id": 1' + b"0" * 5000 + b"}")),
        (_run, _raw(json.dumps({"id": 1, **REPORT, "wall_s": float("nan")}).encode())),
        (_run, _raw(json.dumps({"id": 1, **REPORT, "cpu_s": -1.0}).encode())),
        (_run, _raw(json.dumps({"id": 1, **REPORT, "cpu_s": "1"}).encode().replace(b'"1"', b"1e999"))),
        (_run, _raw(json.dumps({"id": 1, **REPORT, "peak_memory_bytes": 1 << 60}).encode())),
        (_run, _raw(json.dumps({"id": 1, **REPORT, "stdout": {**STREAM, "total_bytes": -5}}).encode())),
        (_run, _raw(json.dumps({"id": 1, **REPORT, "stdout": {**STREAM, "kept_bytes": 5}}).encode())),
        (_get, _done()),
        (_get, _done(size="large", version="1")),
        (_get, _done(size=5, version=["1"])),
        (_get, _done(size=1 << 40, version="1")),
        (_get, _raw(b'{"id": 1, "event": "data", "last": false}', bytes(1 << 20)) * 5),
        (RunnerBox.usage, _done(memory_bytes=-1, processes=1, cpu_s=0.1)),
        (lambda box: box.delete("data", "a"), _done()),
    ],
)
async def test_one_that_says_what_it_must_not_is_given_up(use: Use, answer: bytes) -> None:
    error = await _outcome(use, answer)
    assert error.code == "box_gone"
