"""The events of a run: what is sent when, and that leaving ends it."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Any

import pytest

from tests.unit.sandbox.routes.executions import ADA, SESSION, ended
from trainyard.core import errors
from trainyard.sandbox.backends.base import OnOutput
from trainyard.sandbox.routes import answers
from trainyard.sandbox.routes.events import HEARTBEAT, RunEvents
from trainyard.sandbox.types.domain import Executed
from trainyard.sandbox.types.orders import Result

WRITE = partial(answers.executed, ADA)


class Run:
    """A run that writes and ends when it is told to."""

    def __init__(self) -> None:
        self.write: OnOutput | None = None
        self.begins: Callable[[str], None] | None = None
        self.begun = asyncio.Event()
        self.end: asyncio.Future[Executed] = asyncio.get_running_loop().create_future()
        self.was_cancelled = False

    async def __call__(self, on_event: OnOutput, *, on_session: Callable[[str], None]) -> Executed:
        self.write, self.begins = on_event, on_session
        self.begun.set()
        try:
            return await self.end
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise

    def begin(self, session_id: str) -> None:
        assert self.begins is not None
        self.begins(session_id)

    def writes(self, stream: Any, data: bytes) -> None:
        assert self.write is not None
        self.write(stream, data)


@pytest.fixture
async def run() -> Run:
    return Run()


def read(frame: bytes) -> list[tuple[str, Any]]:
    found = []
    for block in frame.decode().strip().split("\n\n"):
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


async def rest(events: AsyncGenerator[bytes, None]) -> list[tuple[str, Any]]:
    return [one for frame in [frame async for frame in events] for one in read(frame)]


async def test_output_goes_out_as_it_comes_and_what_came_in_a_row_as_one(run: Run) -> None:
    events = RunEvents(run, WRITE, "req_1", heartbeat_s=10)
    await run.begun.wait()
    for stream, data in (("stdout", b"a"), ("stdout", b"b"), ("stderr", b"!"), ("stdout", b"c")):
        run.writes(stream, data)
    await events.begin()
    assert read(await anext(events)) == [
        ("stdout", {"text": "ab"}),
        ("stderr", {"text": "!"}),
        ("stdout", {"text": "c"}),
    ]
    run.end.set_result(ended(stdout="abc", results=(Result(kind="execute_result", data={"text/plain": "1"}),)))
    result, done = await rest(events)
    assert (result[0], result[1]["data"]) == ("result", {"text/plain": "1"})
    assert (done[0], done[1]["stdout"]) == ("done", "abc")


async def test_a_character_that_was_cut_is_sent_whole(run: Run) -> None:
    events = RunEvents(run, WRITE, "req_1", heartbeat_s=10)
    await run.begun.wait()
    raw = "é€".encode()
    texts = []
    for byte in raw:
        run.writes("stdout", bytes([byte]))
        frame = await anext(events)
        texts += [data["text"] for _, data in read(frame)] if frame != HEARTBEAT else []
    assert texts == ["é", "€"]
    await events.aclose()


async def test_half_a_character_at_the_end_is_shown_as_such(run: Run) -> None:
    events = RunEvents(run, WRITE, "req_1", heartbeat_s=10)
    await run.begun.wait()
    run.writes("stdout", b"\xe2\x82")
    run.end.set_result(ended())
    frames = [frame async for frame in events]
    assert read(frames[-1])[0] == ("stdout", {"text": "\ufffd"})


async def test_silence_is_filled(run: Run) -> None:
    events = RunEvents(run, WRITE, "req_1", heartbeat_s=0.01)
    await events.begin()
    assert [await anext(events) for _ in range(2)] == [HEARTBEAT, HEARTBEAT]
    run.end.set_result(ended())
    assert [name for name, _ in await rest(events)] == ["done"]


async def test_the_session_is_told_before_the_code_has_written_anything(run: Run) -> None:
    events = RunEvents(run, WRITE, "req_1", heartbeat_s=10)
    await run.begun.wait()
    run.begin(SESSION)
    await events.begin()
    assert read(await anext(events)) == [("session", {"session_id": SESSION})]
    run.begin(SESSION)
    run.writes("stdout", b"a")
    assert [name for name, _ in read(await anext(events))] == ["session", "stdout"]
    run.end.set_result(ended())
    assert [name for name, _ in await rest(events)] == ["done"]


async def test_a_fault_behind_the_beginning_is_the_last_event(run: Run) -> None:
    events = RunEvents(run, WRITE, "req_1", heartbeat_s=10)
    await run.begun.wait()
    run.begin(SESSION)
    run.end.set_exception(errors.Unavailable("box gone", code="box_gone"))
    await events.begin()
    (begun, (name, data)) = await rest(events)
    assert (begun[0], name, data["code"]) == ("session", "error", "box_gone")


async def test_a_fault_before_the_code_begins_is_raised(run: Run) -> None:
    events = RunEvents(run, WRITE, "req_1", heartbeat_s=10)
    run.end.set_exception(errors.LimitReached("five", retry_after_s=1))
    with pytest.raises(errors.LimitReached):
        await events.begin()
    assert [frame async for frame in events] == []


@pytest.mark.parametrize(
    ("fault", "error", "code"),
    [
        (errors.Unavailable("box gone", code="box_gone"), "box gone", "box_gone"),
        (errors.LimitReached("x", retry_after_s=3), "rate_limited", "rate_limit_exceeded"),
        (RuntimeError("a secret"), None, "internal_error"),
    ],
)
async def test_a_fault_behind_output_is_the_last_event(
    run: Run, fault: Exception, error: str | None, code: str
) -> None:
    events = RunEvents(run, WRITE, "req_1", heartbeat_s=10)
    await run.begun.wait()
    run.writes("stdout", b"a")
    await events.begin()
    await anext(events)
    run.end.set_exception(fault)
    ((name, data),) = await rest(events)
    assert (name, data["code"], data["request_id"]) == ("error", code, "req_1")
    assert error is None or data["error"] == error
    assert "secret" not in str(data)


@pytest.mark.parametrize("begins", [True, False])
async def test_leaving_ends_the_run(run: Run, begins: bool) -> None:
    events = RunEvents(run, WRITE, "req_1", heartbeat_s=0.01)
    await run.begun.wait()
    if begins:
        await anext(events)
    await events.aclose()
    assert run.was_cancelled
    assert [frame async for frame in events] == []


async def test_being_cancelled_while_waiting_leaves_the_run_to_aclose(run: Run) -> None:
    events = RunEvents(run, WRITE, "req_1", heartbeat_s=10)
    waiting = asyncio.ensure_future(anext(events))
    await run.begun.wait()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert not run.was_cancelled
    await events.aclose()
    assert run.was_cancelled
