import time
from pathlib import Path

import pytest

from trainyard.core import errors
from trainyard.engine import calls, types
from trainyard.engine.fake import FakeEngine, FakeEngines


def request(max_tokens: int, **sampling: object) -> types.GenerateRequest:
    settings = types.Sampling(max_tokens=max_tokens, **sampling)  # type: ignore[arg-type]
    return types.GenerateRequest(stream_id="s", prompt=types.int32([1, 2]), sampling=settings)


async def read(engine: FakeEngine, wanted: types.GenerateRequest) -> list[types.TokenEvent]:
    return [event async for event in engine.generate(wanted)]


async def test_a_script_is_said_and_ends_with_the_stop_token() -> None:
    engine = FakeEngine(script=[7, 8])
    events = await read(engine, request(9, stop_token_ids=(3, 4)))
    assert [(event.token, event.finish) for event in events] == [(7, None), (8, None), (3, "stop")]
    await engine.aclose()


async def test_a_script_without_a_stop_token_ends_with_length_and_no_token() -> None:
    engine = FakeEngine(script=[7])
    assert [(event.token, event.finish) for event in await read(engine, request(9))] == [(7, None), (-1, "length")]
    await engine.aclose()


async def test_drawn_tokens_follow_no_grammar_but_a_script_may_be_one() -> None:
    wanted = request(9, stop_token_ids=(3,), grammar=types.Grammar(kind="json_object"))
    drawing, saying = FakeEngine(), FakeEngine(script=[7])
    with pytest.raises(errors.InvalidRequest, match="follow no grammar") as caught:
        await read(drawing, wanted)
    assert caught.value.code == "invalid_grammar"
    assert [event.token for event in await read(saying, wanted)] == [7, 3]
    await drawing.aclose()
    await saying.aclose()


async def test_failures_are_used_up_in_order() -> None:
    engine = FakeEngine()
    engine.fail_next(errors.Unavailable("one"))
    engine.fail_next(errors.Conflict("two"))
    with pytest.raises(errors.Unavailable, match="one"):
        await engine.info()
    with pytest.raises(errors.Conflict, match="two"):
        await read(engine, request(1))
    assert (await engine.info()).architecture == "fake"
    await engine.aclose()


async def test_it_dies_after_so_many_tokens_and_comes_back() -> None:
    engine = FakeEngine()
    engine.die_after_tokens(3)
    seen = 0
    with pytest.raises(errors.Unavailable) as died:  # noqa: PT012 - what came before the error counts
        async for _ in engine.generate(request(9)):
            seen += 1
    assert (seen, died.value.code) == (3, "engine_restarting")
    assert len(await read(engine, request(9))) == 9
    await engine.aclose()


async def test_latency_comes_before_each_call_and_calls_are_kept() -> None:
    engine = FakeEngine(latency_s=0.05)
    before = time.monotonic()
    await engine.info()
    assert time.monotonic() - before >= 0.05
    assert engine.seen == [calls.Info()]
    await engine.aclose()


@pytest.mark.parametrize(("logprobs", "top"), [(-1, 0), (0, 0), (3, 3)])
async def test_logprobs_come_when_asked(logprobs: int, top: int) -> None:
    engine = FakeEngine(vocab_size=10)
    (event,) = await read(engine, request(1, logprobs=logprobs))
    assert len(event.top) == top
    assert (event.logprob == event.logprob) is (logprobs >= 0)  # NaN is not equal to itself
    await engine.aclose()


async def test_a_seed_decides_when_tokens_are_drawn_and_not_when_they_are_greedy() -> None:
    engine = FakeEngine(vocab_size=100_000)
    drawn = [[event.token for event in await read(engine, request(4, seed=seed))] for seed in (1, 1, 2)]
    greedy = [[event.token for event in await read(engine, request(4, seed=seed, temperature=0.0))] for seed in (1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert greedy[0] == greedy[1]
    await engine.aclose()


async def test_a_saved_adapter_is_a_version_of_its_own_and_a_missing_one_is_not_found(tmp_path: Path) -> None:
    engine = FakeEngine()
    (tmp_path / "adapter_config.json").touch()
    wanted = types.GenerateRequest(
        stream_id="s", prompt=types.int32([1]), sampling=types.Sampling(max_tokens=1), adapter_dir=str(tmp_path)
    )
    assert (await read(engine, wanted))[0].weights_version == tmp_path.name
    (tmp_path / "adapter_config.json").unlink()
    with pytest.raises(errors.NotFound) as missing:
        await read(engine, wanted)
    assert missing.value.code == "adapter_not_found"
    await engine.aclose()


async def test_engines_give_what_they_were_given() -> None:
    engine = FakeEngine()
    engines = FakeEngines({"m": engine})
    assert await engines.get("m") is engine
    with pytest.raises(errors.Unavailable) as away:
        await engines.get("n")
    assert away.value.code == "engine_starting"
    await engines.aclose()
    with pytest.raises(errors.Unavailable):
        await engine.info()
