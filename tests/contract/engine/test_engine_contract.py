"""One suite for every implementation of `Engine`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from tests.contract.engine.harness import (
    CONTEXT,
    VOCAB,
    FakeHarness,
    Harness,
    InlineHarness,
    ProcessHarness,
    SharedHarness,
    datum,
    request,
    run_spec,
    shared_process,
    write_tiny_llama,
)
from trainyard.core import errors
from trainyard.engine import base, types
from trainyard.engine.server_config import EngineServerConfig

Make = Callable[..., Awaitable[Harness]]


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny_llama"))


@pytest.fixture(scope="session")
def shared(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    socket = tmp_path_factory.mktemp("shared") / "engine.sock"
    config = EngineServerConfig(socket=str(socket), name="tiny", model_dir=str(tiny_llama), device="cpu", threads=1)
    with shared_process(config) as path:
        yield path


async def process(kind: str, model_dir: Path, tmp_path: Path, stall_s: float, is_slow: bool) -> ProcessHarness:
    config = EngineServerConfig(
        socket=str(tmp_path / "engine.sock"),
        name="tiny",
        model_dir=str(model_dir),
        core="fake" if kind == "socket-fake" else "model",
        device="cpu",
        threads=1,
        stream_stall_s=stall_s,
        fake_token_s=0.02 if is_slow else 0.0,
        fake_micro_step_s=0.5 if is_slow else 0.0,
    )
    harness = ProcessHarness(config)
    await harness.restart()
    return harness


async def made_by(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, *, may_share: bool = True
) -> AsyncIterator[Make]:
    tiny = request.getfixturevalue("tiny_llama") if kind in ("inline", "socket") else tmp_path
    harnesses: list[Harness] = []

    async def make(*, stall_s: float = 30.0, is_slow: bool = False) -> Harness:
        harness: Harness
        if kind == "fake":
            harness = FakeHarness(stream_stall_s=stall_s, is_slow=is_slow)
        elif kind == "inline":
            harness = InlineHarness(tiny, stream_stall_s=stall_s)
        elif kind == "socket" and may_share and stall_s == 30.0:
            harness = SharedHarness(request.getfixturevalue("shared"))
        else:
            harness = await process(kind, tiny, tmp_path, stall_s, is_slow)
        harnesses.append(harness)
        return harness

    yield make
    for harness in harnesses:
        await harness.aclose()


@pytest.fixture(params=["fake", "inline", "socket-fake", "socket"])
async def make(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Make]:
    async for one in made_by(request.param, request, tmp_path):
        yield one


@pytest.fixture(params=["fake", "socket"])
async def make_mortal(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Make]:
    async for one in made_by(request.param, request, tmp_path, may_share=False):
        yield one


@pytest.fixture
async def engine(make: Make) -> base.Engine:
    return (await make()).engine


async def read(engine: base.Engine, wanted: types.GenerateRequest) -> list[types.TokenEvent]:
    return [event async for event in engine.generate(wanted)]


async def rest(stream: AsyncIterator[types.TokenEvent]) -> list[types.TokenEvent]:
    return [event async for event in stream]


async def until(is_true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await is_true():  # noqa: ASYNC110 - the engine is asked, it does not tell
            await asyncio.sleep(0.01)


async def test_an_engine_describes_its_model(engine: base.Engine) -> None:
    info = await engine.info()
    assert info.vocab_size == VOCAB
    assert info.name in ("tiny", "fake/model")
    assert info.architecture in ("LlamaForCausalLM", "fake")


async def test_a_run_goes_from_open_to_close_and_its_loss_falls(engine: base.Engine, tmp_path: Path) -> None:
    opened = await engine.open_run(run_spec(tmp_path))
    assert (opened.current_step, opened.pending_tokens, opened.gradients_lost, opened.rolled_back) == (
        0,
        0,
        False,
        None,
    )
    assert opened.trainable_parameters > 0
    losses = []
    for step in range(4):
        result = await engine.forward_backward("run_1", [datum(12), datum(5, first=40)], accumulate=False)
        assert (result.tokens, result.weight_sum, result.step) == (17, 17.0, step)
        losses.append(result.loss)
        assert (await engine.optim_step("run_1")).step == step + 1
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]
    closed = await engine.close_run("run_1")
    assert (closed.current_step, closed.durable_step) == (4, 4)
    with pytest.raises(errors.NotFound) as away:
        await engine.run_state("run_1")
    assert away.value.code == "run_not_open"


async def test_a_closed_run_opens_again_where_it_was(engine: base.Engine, tmp_path: Path) -> None:
    await engine.open_run(run_spec(tmp_path))
    await engine.forward_backward("run_1", [datum(8)], accumulate=False)
    await engine.optim_step("run_1")
    await engine.close_run("run_1")
    again = await engine.open_run(run_spec(tmp_path))
    assert (again.current_step, again.durable_step, again.rolled_back, again.gradients_lost) == (1, 1, None, False)


async def test_opening_an_open_run_changes_nothing(engine: base.Engine, tmp_path: Path) -> None:
    await engine.open_run(run_spec(tmp_path))
    await engine.forward_backward("run_1", [datum(8)], accumulate=False)
    assert (await engine.open_run(run_spec(tmp_path))).pending_tokens == 8


@pytest.mark.parametrize(("accumulate", "pending"), [(True, 13), (False, 5)])
async def test_accumulate_adds_and_otherwise_replaces(
    engine: base.Engine, tmp_path: Path, accumulate: bool, pending: int
) -> None:
    await engine.open_run(run_spec(tmp_path))
    await engine.forward_backward("run_1", [datum(8)], accumulate=False)
    await engine.forward_backward("run_1", [datum(5)], accumulate=accumulate)
    assert (await engine.run_state("run_1")).pending_tokens == pending


async def test_a_step_without_gradients_is_a_conflict(engine: base.Engine, tmp_path: Path) -> None:
    await engine.open_run(run_spec(tmp_path))
    with pytest.raises(errors.Conflict) as conflict:
        await engine.optim_step("run_1")
    assert conflict.value.code == "no_gradients"
    assert (await engine.run_state("run_1")).current_step == 0


async def test_the_learning_rate_of_one_step_can_be_given(engine: base.Engine, tmp_path: Path) -> None:
    await engine.open_run(run_spec(tmp_path))
    await engine.forward_backward("run_1", [datum(8)], accumulate=False)
    assert (await engine.optim_step("run_1", learning_rate=0.5e-3)).learning_rate == pytest.approx(0.5e-3)


UNKNOWN_RUN: dict[str, Callable[[base.Engine, Path], Awaitable[object]]] = {
    "run_state": lambda engine, _: engine.run_state("run_2"),
    "close_run": lambda engine, _: engine.close_run("run_2"),
    "forward_backward": lambda engine, _: engine.forward_backward("run_2", [datum(3)], accumulate=False),
    "optim_step": lambda engine, _: engine.optim_step("run_2"),
    "save": lambda engine, path: engine.save("run_2", "adapter", str(path / "saved")),
    "generate": lambda engine, _: read(engine, request(3, run_id="run_2")),
}


@pytest.mark.parametrize("name", UNKNOWN_RUN)
async def test_a_run_that_is_not_open_is_not_found(engine: base.Engine, tmp_path: Path, name: str) -> None:
    with pytest.raises(errors.NotFound) as missing:
        await UNKNOWN_RUN[name](engine, tmp_path)
    assert missing.value.code == "run_not_open"


BAD_BATCH = {
    "no sequences": [],
    "an empty sequence": [types.Datum(tokens=b"", targets=b"", weights=b"")],
    "a token over the vocabulary": [
        datum(4),
        types.Datum(tokens=types.int32([VOCAB]), targets=types.int32([1]), weights=types.float32([1])),
    ],
}


@pytest.mark.parametrize("what", BAD_BATCH)
async def test_a_bad_batch_is_refused_and_leaves_the_held_gradients(
    engine: base.Engine, tmp_path: Path, what: str
) -> None:
    await engine.open_run(run_spec(tmp_path))
    await engine.forward_backward("run_1", [datum(7)], accumulate=False)
    with pytest.raises(errors.InvalidRequest):
        await engine.forward_backward("run_1", BAD_BATCH[what], accumulate=False)
    assert (await engine.run_state("run_1")).pending_tokens == 7


async def test_a_batch_over_the_frame_bound_arrives_whole(engine: base.Engine, tmp_path: Path) -> None:
    await engine.open_run(run_spec(tmp_path))
    long = datum(1024)
    last = types.Datum(tokens=types.int32([VOCAB]), targets=types.int32([1]), weights=types.float32([1]))
    data = [long] * (70 * 1024 * 1024 // (3 * len(long.tokens))) + [last]
    with pytest.raises(errors.InvalidRequest):  # the last token of all was seen
        await engine.forward_backward("run_1", data, accumulate=False)
    assert (await engine.run_state("run_1")).pending_tokens == 0


async def test_calls_of_one_run_keep_their_order(engine: base.Engine, tmp_path: Path) -> None:
    await engine.open_run(run_spec(tmp_path))
    async with asyncio.TaskGroup() as group:
        tasks: list[asyncio.Task[object]] = []
        for _ in range(3):
            tasks.append(group.create_task(_fb(engine)))
            tasks.append(group.create_task(_step(engine)))
    assert [task.result() for task in tasks] == [0, 1, 1, 2, 2, 3]


async def _fb(engine: base.Engine) -> object:
    return (await engine.forward_backward("run_1", [datum(4)], accumulate=False)).step


async def _step(engine: base.Engine) -> object:
    return (await engine.optim_step("run_1")).step


async def test_waiting_calls_of_different_runs_share_a_pass(make: Make, tmp_path: Path) -> None:
    engine = (await make(is_slow=True)).engine
    names = [f"run_{i}" for i in range(4)]
    for name in names:
        await engine.open_run(run_spec(tmp_path, name))
    first = asyncio.create_task(engine.forward_backward("run_0", [datum(600)] * 4, accumulate=False))
    await asyncio.sleep(0.02)
    others = [asyncio.create_task(engine.forward_backward(name, [datum(4)], accumulate=False)) for name in names[1:]]
    results = await asyncio.gather(*others)
    assert [result.packed_runs for result in results] == [3, 3, 3]
    assert (await first).packed_runs == 1


async def test_an_adapter_is_saved_whole_into_a_new_directory(engine: base.Engine, tmp_path: Path) -> None:
    await engine.open_run(run_spec(tmp_path))
    await engine.forward_backward("run_1", [datum(8)], accumulate=False)
    await engine.optim_step("run_1")
    target = tmp_path / "saved"
    saved = await engine.save("run_1", "adapter", str(target))
    assert (saved.step, saved.mode, saved.directory) == (1, "adapter", str(target))
    assert saved.files == {path.name: path.stat().st_size for path in target.iterdir()}
    tensors = load_file(target / "adapter_model.safetensors")
    assert {name.split(".")[-2] for name in tensors} == {"lora_A", "lora_B"}
    with pytest.raises(errors.Conflict) as again:
        await engine.save("run_1", "adapter", str(target))
    assert again.value.code == "already_exists"
    assert (await engine.run_state("run_1")).durable_step == 1


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


async def test_a_deadline_ends_a_stream_and_the_engine_goes_on(make: Make) -> None:
    engine = (await make(is_slow=True)).engine
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(read(engine, request(1500)), 0.2)

    async def is_gone() -> bool:
        return (await engine.stats()).active_streams == 0

    await until(is_gone)
    assert len(await read(engine, request(3))) == 3


async def test_a_call_that_waits_is_taken_back_at_its_deadline(make: Make, tmp_path: Path) -> None:
    engine = (await make(is_slow=True)).engine
    await engine.open_run(run_spec(tmp_path))
    first = asyncio.create_task(engine.forward_backward("run_1", [datum(600)] * 4, accumulate=False))
    await asyncio.sleep(0.02)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(engine.forward_backward("run_1", [datum(4)], accumulate=True), 0.05)
    await first
    assert (await engine.run_state("run_1")).pending_tokens == 2400


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


async def test_an_error_carries_its_class_code_and_parameter(engine: base.Engine) -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        await read(engine, request(3, prompt=(VOCAB + 5,)))
    assert type(refused.value) is errors.InvalidRequest
    assert refused.value.param == "prompt"


async def test_a_closed_engine_is_unavailable(make: Make) -> None:
    harness = await make()
    await harness.engine.info()
    await harness.engine.aclose()
    with pytest.raises(errors.Unavailable):
        await harness.engine.info()


async def test_death_fails_calls_and_streams_in_flight_and_they_may_be_retried(
    make_mortal: Make, tmp_path: Path
) -> None:
    harness = await make_mortal(is_slow=True)
    engine = harness.engine
    await engine.open_run(run_spec(tmp_path))
    stream = engine.generate(request(1500))
    await anext(stream)
    call = asyncio.create_task(engine.forward_backward("run_1", [datum(600)] * 50, accumulate=False))
    await asyncio.sleep(0.05)
    await harness.kill()
    with pytest.raises(errors.Unavailable) as mid_call:
        await call
    with pytest.raises(errors.Unavailable) as mid_stream:
        await rest(stream)
    for failure in (mid_call.value, mid_stream.value):
        assert failure.code == "engine_restarting"
        assert failure.retry_after_s is not None
    await harness.restart()
    assert len(await read(engine, request(3))) == 3


async def test_after_a_death_between_gradients_and_step_the_gradients_are_lost_once(
    make_mortal: Make, tmp_path: Path
) -> None:
    harness = await make_mortal()
    engine = harness.engine
    await engine.open_run(run_spec(tmp_path))
    await engine.forward_backward("run_1", [datum(6)], accumulate=False)
    await harness.kill()
    await harness.restart()
    with pytest.raises(errors.NotFound):
        await engine.optim_step("run_1")
    state = await engine.open_run(run_spec(tmp_path))
    assert (state.gradients_lost, state.current_step, state.pending_tokens) == (True, 0, 0)
    with pytest.raises(errors.Conflict) as lost:
        await engine.optim_step("run_1")
    assert lost.value.code == "gradients_lost"
    await engine.forward_backward("run_1", [datum(6)], accumulate=False)
    assert (await engine.optim_step("run_1")).step == 1


async def test_after_a_death_a_run_is_back_at_its_durable_step_and_says_so(make_mortal: Make, tmp_path: Path) -> None:
    harness = await make_mortal()
    engine = harness.engine
    spec = run_spec(tmp_path, rank=64)  # a state over 16 MB is written every 60 s, not after each step
    await engine.open_run(spec)
    await _train(engine, 2)
    await engine.save("run_1", "adapter", str(tmp_path / "saved"))  # makes step 2 durable
    await _train(engine, 1)
    await harness.kill()
    await harness.restart()
    state = await engine.open_run(spec)
    assert (state.current_step, state.durable_step) == (2, 2)
    assert state.rolled_back == types.RolledBack(from_step=3, to_step=2)


async def _train(engine: base.Engine, steps: int) -> None:
    for _ in range(steps):
        await engine.forward_backward("run_1", [datum(6)], accumulate=False)
        await engine.optim_step("run_1")


@pytest.mark.parametrize("kind", ["socket-fake", "socket"])
async def test_sigterm_writes_every_run_and_exits_0(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    async for make in made_by(kind, request, tmp_path, may_share=False):
        harness = await make()
        assert isinstance(harness, ProcessHarness)
        spec = run_spec(tmp_path, rank=64)
        await harness.engine.open_run(spec)
        await _train(harness.engine, 3)
        assert await harness.terminate() == 0
        await harness.restart()
        state = await harness.engine.open_run(spec)
        assert (state.current_step, state.rolled_back) == (3, None)
