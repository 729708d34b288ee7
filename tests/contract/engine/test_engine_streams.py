"""Token streams in every implementation of `Engine`."""

import asyncio
import secrets
from pathlib import Path

import msgspec
import pytest

from tests.contract.engine.harness import CONTEXT, datum, read, request, run_spec, until
from tests.contract.engine.implementations import Make
from trainyard.core import errors
from trainyard.engine import base, types


async def test_greedy_tokens_are_the_same_each_time(engine: base.Engine) -> None:
    first, second = await read(engine, request(9)), await read(engine, request(9))
    assert [event.token for event in first] == [event.token for event in second]
    assert [event.finish for event in first] == [None] * 8 + ["length"]
    assert {event.weights_version for event in first} == {"base"}


async def test_a_stop_token_ends_a_stream(engine: base.Engine) -> None:
    drawn = [event.token for event in await read(engine, request(9))]
    stop = drawn[4]
    sampling = types.Sampling(max_tokens=9, temperature=0.0, stop_token_ids=(stop,))
    wanted = types.GenerateRequest(stream_id="s", prompt=types.int32((5, 6, 7)), sampling=sampling)
    events = await read(engine, wanted)
    assert [event.token for event in events] == drawn[: drawn.index(stop) + 1]
    assert events[-1].finish == "stop"


async def test_a_step_is_seen_by_the_next_stream_and_not_by_a_running_one(engine: base.Engine, tmp_path: Path) -> None:
    await engine.open_run(run_spec(tmp_path))
    running = engine.generate(request(300, run_id="run_1", stream_id="before"))
    versions = {(await anext(running)).weights_version}
    await engine.forward_backward("run_1", [datum(8)], accumulate=False)
    await engine.optim_step("run_1")
    after = await read(engine, request(2, run_id="run_1", stream_id="after"))
    async for event in running:
        versions.add(event.weights_version)
    assert versions == {"run_1@0"}
    assert {event.weights_version for event in after} == {"run_1@1"}


async def test_eight_streams_at_once_say_what_each_says_alone(engine: base.Engine) -> None:
    wanted = [request(20, prompt=(3 + i, 9, 4 * i), stream_id=f"s{i}") for i in range(8)]
    alone = [[event.token for event in await read(engine, one)] for one in wanted]
    together = await asyncio.gather(*(read(engine, one) for one in wanted))
    assert [[event.token for event in events] for events in together] == alone


async def test_two_callers_may_use_the_same_stream_id(engine: base.Engine) -> None:
    both = await asyncio.gather(read(engine, request(5)), read(engine, request(5)))
    assert [len(events) for events in both] == [5, 5]


async def test_a_prompt_over_the_context_is_refused(engine: base.Engine) -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        await read(engine, request(1, prompt=(1,) * (3 * CONTEXT)))
    assert refused.value.code == "context_length_exceeded"


async def test_closing_the_iterator_ends_the_stream(engine: base.Engine) -> None:
    before = (await engine.stats()).sampled_tokens
    stream = engine.generate(request(1500))
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]

    async def is_gone() -> bool:
        stats = await engine.stats()
        return stats.active_streams + stats.queued_streams == 0

    await until(is_gone)
    assert (await engine.stats()).sampled_tokens - before < 300


async def test_a_timeout_ends_a_stream_with_what_was_drawn(make: Make) -> None:
    engine = (await make(is_slow=True)).engine
    wanted = msgspec.structs.replace(request(1500), timeout_s=0.4)
    drawn = 0
    with pytest.raises(errors.DeadlineExceeded) as late:  # noqa: PT012 - what came before the error counts
        async for _ in engine.generate(wanted):
            drawn += 1
    assert late.value.code == "generation_timeout"
    assert 0 < drawn < 1500

    async def is_gone() -> bool:
        return (await engine.stats()).active_streams == 0

    await until(is_gone)


async def test_a_beginning_is_found_within_its_scope_alone(engine: base.Engine) -> None:
    prompt = tuple(range(5, 55))

    async def cached(scope: str | None) -> int:
        wanted = msgspec.structs.replace(request(2, prompt=prompt), prefix_scope=scope)
        return (await read(engine, wanted))[0].cached_tokens

    scope = secrets.token_hex(4)
    assert [await cached(name) for name in (scope, scope, f"{scope}2", None)] == [0, 32, 0, 0]
    stats = await engine.stats()
    assert stats.prefix_hit_tokens >= 32
    assert stats.prompt_tokens >= 4 * 50


async def test_a_deadline_ends_a_stream_and_the_engine_goes_on(make: Make) -> None:
    engine = (await make(is_slow=True)).engine
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(read(engine, request(1500)), 0.2)

    async def is_gone() -> bool:
        return (await engine.stats()).active_streams == 0

    await until(is_gone)
    assert len(await read(engine, request(3))) == 3


async def test_a_stream_is_parked_at_its_credit_and_ended_when_nobody_reads(make: Make) -> None:
    engine = (await make(stall_s=0.3)).engine
    before = (await engine.stats()).sampled_tokens
    stream = engine.generate(request(1500))
    await anext(stream)

    async def is_over() -> bool:
        return (await engine.stats()).active_streams == 0

    await until(is_over)
    assert (await engine.stats()).sampled_tokens - before == 256
    read_tokens = 1
    with pytest.raises(errors.DeadlineExceeded) as stalled:  # noqa: PT012 - what came before the error counts
        async for _ in stream:
            read_tokens += 1
    assert stalled.value.code == "stream_stalled"
    assert read_tokens == 256


async def test_a_slow_reader_that_comes_back_gets_every_token(make: Make) -> None:
    engine = (await make()).engine
    expected = [event.token for event in await read(engine, request(400))]
    stream = engine.generate(request(400))
    tokens = [(await anext(stream)).token]

    async def is_parked() -> bool:
        before = (await engine.stats()).sampled_tokens
        await asyncio.sleep(0.1)
        return (await engine.stats()).sampled_tokens == before

    await until(is_parked)
    tokens += [event.token async for event in stream]
    assert tokens == expected


async def test_streams_go_on_while_a_run_trains(make: Make, tmp_path: Path) -> None:
    engine = (await make(is_slow=True)).engine
    await engine.open_run(run_spec(tmp_path))
    stream = engine.generate(request(1500))
    await anext(stream)
    training = asyncio.create_task(engine.forward_backward("run_1", [datum(600)] * 6, accumulate=False))
    during = 0
    async for _ in stream:
        if training.done():
            break
        during += 1
    await stream.aclose()  # type: ignore[attr-defined]
    await training
    assert during >= 1
