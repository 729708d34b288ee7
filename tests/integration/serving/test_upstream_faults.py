"""Servers elsewhere that stall, drop, refuse and talk nonsense: each an error that names the model, in time."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from tests.contract.serving import fleet
from tests.contract.serving.fleet import HELLO, Fleet
from trainyard.core import errors
from trainyard.core.clock import FakeClock
from trainyard.loadtest.mock import Latency
from trainyard.serving.types import Piece, pieces

FAR = "backend: openai, base_url: MOCK/v1, retries: 0, first_byte_timeout_s: 0.3, idle_timeout_s: 0.3"
OLL = "backend: ollama, base_url: MOCK, retries: 0, first_byte_timeout_s: 0.3, idle_timeout_s: 0.3"
ENTRIES = f"""
  - {{name: far, {FAR}}}
  - {{name: oll, {OLL}}}
  - {{name: patient, {FAR.replace("retries: 0", "retries: 2")}}}
  - {{name: narrow, {FAR}, max_concurrency: 2}}
  - {{name: deaf, backend: openai, base_url: "http://127.0.0.1:1/v1", retries: 1}}
  - {{name: guarded, {FAR}, fallbacks: [second, third]}}
  - {{name: second, {OLL}, upstream_model: second}}
  - {{name: third, backend: fake}}
  - {{name: asleep, path: bytes, fallbacks: [far, third]}}
  - {{name: sleeping, path: bytes, fallbacks: [small]}}
  - {{name: small, {FAR}, context_tokens: 8}}
  - {{name: hopeless, {FAR}, fallbacks: [deaf]}}
"""
SILENT_FAULTS = ("500", "503", "429", "stall-head", "drop-head", "401")
STREAM_FAULTS = {
    "stall-head": ("upstream_timeout", "did not answer in time"),
    "stall-body": ("upstream_timeout", "stopped in the middle"),
    "drop-head": ("upstream_failed", "closed the connection without an answer"),
    "drop-body": ("upstream_failed", "in the middle of its answer"),
    "cut-event": ("upstream_failed", "in the middle of its answer"),
    "error-event": ("upstream_failed", "reported an error in its answer"),
    "garbage": ("upstream_answer_unreadable", "no answer in its dialect"),
    "html": ("upstream_answer_unreadable", "no answer in its dialect"),
    "empty": ("upstream_failed", "answered with an empty stream"),
    "302": ("upstream_failed", "answered with status 302"),
    "401": ("upstream_key_refused", "refused this server's key"),
    "404": ("upstream_model_missing", "does not know it"),
    "500": ("upstream_failed", "answered with status 500"),
    "503": ("upstream_failed", "answered with status 503"),
}
WHOLE_FAULTS = {name: value for name, value in STREAM_FAULTS.items() if name != "error-event"} | {
    "stall-body": ("upstream_timeout", "did not answer in time"),
    "empty": ("upstream_answer_unreadable", "no answer in its dialect"),
}


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with fleet.fleet(tmp_path, ENTRIES) as built:
        yield built


@pytest.mark.parametrize("model", ["far", "oll"])
@pytest.mark.parametrize("fault", WHOLE_FAULTS)
async def test_a_whole_answer_that_fails_is_an_error_that_names_its_model(yard: Fleet, model: str, fault: str) -> None:
    yard.mock.plan.add(fault)
    began = time.monotonic()
    with pytest.raises(errors.UpstreamFailed) as caught:
        await yard.collect(model)
    assert time.monotonic() - began < 2
    code, says = WHOLE_FAULTS[fault]
    assert (caught.value.code, caught.value.data["model"]) == (code, model)
    assert f"The server behind {model} " in caught.value.message
    assert says in caught.value.message
    assert "127.0.0.1" not in caught.value.message


@pytest.mark.parametrize("model", ["far", "oll"])
@pytest.mark.parametrize("fault", STREAM_FAULTS)
async def test_a_stream_that_fails_is_an_error_after_what_came(yard: Fleet, model: str, fault: str) -> None:
    yard.mock.plan.add(fault)
    (prepared,) = await yard.backend.prepare(fleet.target(model), fleet.ask())
    delivered: list[Piece] = []
    began = time.monotonic()

    async def read() -> None:
        async with aclosing(prepared.stream(0, 10)) as stream:
            async for piece in stream:
                delivered.append(piece)

    with pytest.raises(errors.UpstreamFailed) as caught:
        await read()
    assert time.monotonic() - began < 2
    assert caught.value.code == STREAM_FAULTS[fault][0]
    assert STREAM_FAULTS[fault][1] in caught.value.message
    assert all(piece.finish_reason is None for piece in delivered)
    if fault in ("stall-body", "drop-body"):
        assert delivered
        assert delivered[0].text


@pytest.mark.parametrize("fault", ["slow-bytes", "no-done", "odd-sse", "no-stream-options", "no-usage"])
async def test_what_is_odd_but_right_is_read(yard: Fleet, fault: str) -> None:
    plain = pieces.join(await yard.stream("far"))
    yard.mock.plan.add(fault)
    odd = pieces.join(await yard.stream("far"))
    assert (odd.text, odd.finish_reason) == (plain.text, plain.finish_reason)
    if fault in ("no-usage", "no-stream-options"):
        assert odd.prompt_tokens is None
        assert odd.completion_tokens == len(odd.text)  # the bound: one token per byte
    else:
        assert (odd.prompt_tokens, odd.completion_tokens) == (plain.prompt_tokens, plain.completion_tokens)


async def test_a_server_that_does_not_count_in_streams_is_asked_once(yard: Fleet) -> None:
    yard.mock.plan.add("no-stream-options")
    for _ in range(3):
        await yard.stream("far")
    assert yard.mock.seen.requests["/v1/chat/completions"] == 4
    assert "stream_options" not in yard.sent()


async def test_an_overloaded_server_is_unavailable_with_its_wait(yard: Fleet) -> None:
    yard.mock.plan.add("429")
    with pytest.raises(errors.Unavailable) as caught:
        await yard.collect("far")
    assert (caught.value.code, caught.value.retry_after_s) == ("upstream_overloaded", 1.0)


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [("400", errors.InvalidRequest, "upstream_rejected"), ("413", errors.TooLarge, "request_too_large")],
)
async def test_a_request_at_fault_is_told_so(
    yard: Fleet, status: str, kind: type[errors.TrainyardError], code: str
) -> None:
    yard.mock.plan.add(status)
    with pytest.raises(kind) as caught:
        await yard.collect("far")
    assert caught.value.code == code
    assert "behind far" in caught.value.message


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"this is no HTTP at all\r\n\r\n", "upstream_failed"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", "upstream_failed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n\xff\xfe\x00", "upstream_answer_unreadable"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n" + b'{"error":{}}', "upstream_failed"),
        (b"HTTP/1.1 500 X\r\ncontent-length: 9\r\n\r\nnot JSON!", "upstream_failed"),
    ],
    ids=["no-http", "long-head", "no-utf8", "error-in-200", "error-without-body"],
)
async def test_a_server_that_speaks_something_else_is_an_error(tmp_path: Path, raw: bytes, code: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    entries = f'  - {{name: odd, backend: openai, base_url: "http://127.0.0.1:{port}", retries: 0}}'
    async with server, fleet.fleet(tmp_path, entries) as yard:
        with pytest.raises(errors.UpstreamFailed) as caught:
            await yard.collect("odd")
        assert caught.value.code == code


# -------------------------------------------------------------------- retries
@pytest.mark.parametrize("fault", ["502", "503", "504", "drop-head"])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_what_may_be_repeated_is(yard: Fleet, fault: str, is_stream: bool) -> None:
    yard.mock.plan.add(fault, times=2)
    made = await (yard.stream("patient") if is_stream else yard.collect("patient"))
    assert made
    assert yard.mock.seen.total == 3
    assert yard.counted("trainyard_upstream_retries_total", model="patient") == 2
    assert yard.counted("trainyard_upstream_attempts_total", model="patient", outcome="ok") == 1


@pytest.mark.parametrize("fault", ["500", "400", "401", "404", "garbage", "stall-head", "drop-body", "stall-body"])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_what_may_have_been_done_already_is_not_repeated(yard: Fleet, fault: str, is_stream: bool) -> None:
    yard.mock.plan.add(fault)
    with pytest.raises(errors.TrainyardError):
        await (yard.stream("patient") if is_stream else yard.collect("patient"))
    assert yard.mock.seen.total == 1


async def test_retry_after_is_waited_for(yard: Fleet) -> None:
    yard.mock.plan.add("429", times=1)
    began = time.monotonic()
    await yard.collect("patient")
    assert 1.0 <= time.monotonic() - began < 2
    assert yard.mock.seen.total == 2


async def test_nobody_waits_for_a_retry_beyond_his_own_time(yard: Fleet) -> None:
    yard.mock.plan.add("429")
    began = time.monotonic()
    with pytest.raises(errors.Unavailable):
        await yard.collect("patient", timeout_s=0.5)
    assert time.monotonic() - began < 0.5
    assert yard.mock.seen.total == 1


async def test_retries_stay_within_a_share_of_the_traffic(yard: Fleet) -> None:
    """100 failing requests could be 300 attempts; the budget allows 10 at once and a fifth on top, the circuit less."""
    yard.mock.plan.add("503")
    outcomes = await asyncio.gather(*(yard.collect("patient") for _ in range(100)), return_exceptions=True)
    assert all(isinstance(one, errors.UpstreamFailed | errors.Unavailable) for one in outcomes)
    assert yard.mock.seen.total <= 100 + 10 + 20


async def test_a_server_that_is_not_there_is_told_apart(yard: Fleet) -> None:
    with pytest.raises(errors.UpstreamFailed) as caught:
        await yard.collect("deaf")
    assert caught.value.code == "upstream_unreachable"
    assert yard.counted("trainyard_upstream_attempts_total", model="deaf", outcome="unreachable") == 2


# ------------------------------------------------------------- circuit, places
async def test_a_circuit_opens_and_closes_by_exactly_one_probe(tmp_path: Path, clock: FakeClock) -> None:
    async with fleet.fleet(tmp_path, ENTRIES, clock=clock) as yard:
        yard.mock.plan.add("500", times=5)
        for _ in range(5):
            with pytest.raises(errors.UpstreamFailed):
                await yard.collect("far")
        assert not yard.upstreams.is_available("far")
        assert yard.upstreams.is_available("oll")
        with pytest.raises(errors.Unavailable) as caught:
            await yard.collect("far")
        assert (caught.value.code, caught.value.retry_after_s) == ("upstream_unavailable", 5.0)
        assert yard.mock.seen.total == 5
        assert yard.counted("trainyard_upstream_circuit", model="far") == 2
        clock.advance(5)
        yard.mock.latency = Latency(first_token_s=0.05)
        outcomes = await asyncio.gather(*(yard.collect("far") for _ in range(20)), return_exceptions=True)
        assert sum(isinstance(one, Piece) for one in outcomes) == 1
        assert yard.mock.seen.total == 6
        assert yard.upstreams.is_available("far")
        assert yard.counted("trainyard_upstream_circuit", model="far") == 0


@pytest.mark.parametrize("fault", ["garbage", "drop-body", "stall-body"])
async def test_answers_that_begin_well_and_break_open_it_too(yard: Fleet, fault: str) -> None:
    yard.mock.plan.add(fault)
    for _ in range(5):
        with pytest.raises(errors.UpstreamFailed):
            await yard.stream("far")
    assert not yard.upstreams.is_available("far")


async def test_a_busy_server_and_bad_requests_do_not_open_it(yard: Fleet) -> None:
    for fault in ("429", "400") * 5:
        yard.mock.plan.add(fault, times=1)
        with pytest.raises((errors.Unavailable, errors.InvalidRequest)):
            await yard.collect("far")
    assert yard.upstreams.is_available("far")


async def test_no_more_than_its_places_are_there_at_once(yard: Fleet) -> None:
    yard.mock.latency = Latency(first_token_s=0.02, answer_tokens=2)
    made = await asyncio.gather(*(yard.collect("narrow") for _ in range(10)))
    assert len(made) == 10
    assert yard.mock.seen.peak == 2


async def test_a_place_that_does_not_come_free_is_overload(yard: Fleet) -> None:
    yard.mock.plan.add("stall-head", times=2)
    outcomes = await asyncio.gather(*(yard.collect("narrow") for _ in range(3)), return_exceptions=True)
    codes = sorted(one.code for one in outcomes if isinstance(one, errors.TrainyardError))
    assert codes in (
        ["upstream_overloaded", "upstream_timeout", "upstream_timeout"],
        ["upstream_timeout", "upstream_timeout"],
    )


# ------------------------------------------------------------------- deadlines
@pytest.mark.parametrize("fault", ["stall-head", "stall-body"])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_the_time_of_the_request_ends_first(yard: Fleet, fault: str, is_stream: bool) -> None:
    yard.mock.plan.add(fault)
    began = time.monotonic()
    with pytest.raises(errors.DeadlineExceeded):
        await (yard.stream("patient", timeout_s=0.1) if is_stream else yard.collect("patient", timeout_s=0.1))
    assert time.monotonic() - began < 0.3
    assert yard.upstreams.is_available("patient")


async def test_a_client_that_leaves_ends_the_request_there_at_once(yard: Fleet) -> None:
    yard.mock.latency = Latency(token_s=0.05, answer_tokens=100)
    (prepared,) = await yard.backend.prepare(fleet.target("far"), fleet.ask())
    stream = prepared.stream(0, 10)
    await anext(stream)
    await stream.aclose()
    for _ in range(20):
        await asyncio.sleep(0.01)
        if yard.mock.seen.aborted:
            break
    assert (yard.mock.seen.aborted, yard.mock.seen.in_flight) == (1, 0)


async def test_a_whole_answer_can_be_cancelled(yard: Fleet) -> None:
    yard.mock.plan.add("stall-head")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await yard.collect("far")
    await asyncio.sleep(0.05)
    assert yard.mock.seen.aborted == 1


# ------------------------------------------------------------------- fallbacks
@pytest.mark.parametrize(
    ("fault", "is_stream"),
    [
        *(
            (fault, is_stream)
            for fault in ("500", "503", "429", "stall-head", "drop-head", "401")
            for is_stream in (0, 1)
        ),
        *(("garbage", 0), ("drop-body", 0), ("html", 1), ("empty", 1)),
    ],
)
async def test_the_next_model_answers_and_says_so(yard: Fleet, fault: str, is_stream: int) -> None:
    yard.mock.plan.add(fault, model="guarded")
    made = await yard.stream("guarded") if is_stream else [await yard.collect("guarded")]
    whole = pieces.join(made)
    assert {piece.model for piece in made} == {"second"}
    assert whole.text == (await yard.collect("second")).text
    assert whole.prompt_tokens == 8
    assert yard.counted("trainyard_model_fallbacks_total", model="guarded", answered_by="second") == 1


async def test_a_chain_is_followed_to_its_end(yard: Fleet) -> None:
    yard.mock.plan.add("500")
    answer = await yard.collect("guarded")
    assert (answer.model, answer.text) == ("third", HELLO.messages[0]["content"])
    assert answer.prompt_tokens == 8  # words, counted by the one who answered


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_model_whose_engine_is_away_is_replaced_before_anything_is_sent(yard: Fleet, is_stream: bool) -> None:
    """The engine pool of this yard knows one model, so that all others are away."""
    made = await yard.stream("asleep") if is_stream else [await yard.collect("asleep")]
    assert {piece.model for piece in made} == {"far"}
    assert yard.counted("trainyard_model_fallbacks_total", model="asleep", answered_by="far") == 1


async def test_a_fallback_that_cannot_take_the_request_is_passed_over(yard: Fleet) -> None:
    answer = await yard.collect("asleep", top_k=5)  # far refuses it, and the fake does not mind
    assert answer.model == "third"
    with pytest.raises(errors.Unavailable):
        await yard.collect("sleeping", max_tokens=50)


async def test_a_model_that_works_is_not_replaced(yard: Fleet) -> None:
    assert (await yard.collect("guarded")).model is None
    assert yard.mock.seen.models == {"guarded": 1}


@pytest.mark.parametrize("fault", ["drop-body", "stall-body", "cut-event", "garbage", "error-event"])
async def test_nobody_else_is_asked_once_text_is_out(yard: Fleet, fault: str) -> None:
    yard.mock.plan.add(fault, model="guarded")
    with pytest.raises(errors.UpstreamFailed, match="guarded"):
        await yard.stream("guarded")
    assert "second" not in yard.mock.seen.models


async def test_a_request_at_fault_is_not_tried_elsewhere(yard: Fleet) -> None:
    yard.mock.plan.add("400", model="guarded")
    with pytest.raises(errors.InvalidRequest):
        await yard.collect("guarded")
    assert yard.mock.seen.total == 1


async def test_when_all_fail_the_last_failure_is_told(yard: Fleet) -> None:
    yard.mock.plan.add("500")
    with pytest.raises(errors.UpstreamFailed, match="behind deaf cannot be reached"):
        await yard.collect("hopeless")


async def test_the_time_of_a_request_is_shared_by_all_who_are_asked(yard: Fleet) -> None:
    yard.mock.plan.add("stall-head")
    began = time.monotonic()
    with pytest.raises(errors.DeadlineExceeded):
        await yard.collect("guarded", timeout_s=0.2)
    assert time.monotonic() - began < 0.4


# --------------------------------------------------------------------- reload
async def test_a_changed_entry_begins_anew_and_an_equal_one_goes_on(tmp_path: Path, clock: FakeClock) -> None:
    async with fleet.fleet(tmp_path, ENTRIES, clock=clock) as yard:
        yard.mock.plan.add("500")
        for model in ("far", "oll"):
            for _ in range(5):
                with pytest.raises(errors.UpstreamFailed):
                    await yard.collect(model)
        yard.file.write_text(yard.file.read_text().replace("name: far,", "name: far, family: changed,"))
        assert yard.models.reload().changed == ("far",)
        assert yard.upstreams.is_available("far")
        assert not yard.upstreams.is_available("oll")
