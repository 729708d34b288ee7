"""The sampler against transformers: same greedy tokens whoever shares the batch, true log-probabilities, ends."""

import math
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.contract.engine import tiny_models as tiny
from trainyard.core import errors
from trainyard.engine import types
from trainyard.engine.core import EngineCore


@pytest.fixture(scope="module", params=["llama", "mistral_window", "qwen2_windows"])
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_random(request.param, tmp_path_factory.mktemp("model"))


@pytest.fixture
def core(directory: Path) -> EngineCore:
    return EngineCore(directory, "tiny")


def prompt(length: int, seed: int = 0) -> list[int]:
    rng = random.Random(seed * 1000 + length)
    return [rng.randrange(tiny.VOCAB) for _ in range(length)]


def request(
    name: str, ids: list[int], max_tokens: int = 12, run: str | None = None, saved: Path | None = None, **settings: Any
) -> types.GenerateRequest:
    sampling = types.Sampling(max_tokens=max_tokens, **({"temperature": 0.0} | settings))
    where = None if saved is None else str(saved)
    return types.GenerateRequest(
        stream_id=name, prompt=types.int32(ids), sampling=sampling, run_id=run, adapter_dir=where
    )


def drain(core: EngineCore) -> dict[str, list[types.TokenEvent]]:
    out = defaultdict(list)
    while core.has_streams:
        for name, event in core.tick():
            out[name].append(event)
    return out


def tokens(events: list[types.TokenEvent]) -> list[int]:
    return [event.token for event in events]


def greedy(model: Any, ids: list[int], count: int) -> list[int]:
    out = model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        max_new_tokens=count,
        min_new_tokens=count,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    return [int(t) for t in out[0, len(ids) :]]


def test_greedy_tokens_equal_transformers_for_mixed_lengths_and_late_joins(core: EngineCore, directory: Path) -> None:
    model = tiny.reference(directory)
    prompts = {f"s{n}": prompt(n) for n in (1, 3, 20, 33, 90, 150)}
    events = defaultdict(list)
    for tick, (name, ids) in enumerate(prompts.items()):
        core.admit(request(name, ids))
        for _ in range(tick % 3):
            for stream, event in core.tick():
                events[stream].append(event)
    for stream, rest in drain(core).items():
        events[stream] += rest
    for name, ids in prompts.items():
        assert tokens(events[name]) == greedy(model, ids, 12), name
        assert [e.finish for e in events[name]] == [None] * 11 + ["length"]


def test_a_prompt_read_in_pieces_while_others_decode_gives_the_same_tokens(core: EngineCore, directory: Path) -> None:
    core._sampler._prefill_tokens = 16  # far below the length of the prompts
    model = tiny.reference(directory)
    core.admit(request("short", prompt(5), 40))
    core.tick()
    core.admit(request("long", prompt(150), prompt_logprobs=True, logprobs=0))
    events = drain(core)
    assert tokens(events["long"]) == greedy(model, prompt(150), 12)
    assert tokens(events["short"])[:3] == greedy(model, prompt(5), 4)[1:]


def test_logprobs_are_those_of_a_full_forward_pass(core: EngineCore, directory: Path) -> None:
    ids = prompt(40)
    core.admit(request("a", ids, 6, logprobs=3, prompt_logprobs=True, temperature=1.3, seed=4, top_p=0.9))
    core.admit(request("b", prompt(9), 6))
    events = drain(core)["a"]
    with torch.no_grad():
        full = tiny.reference(directory)(torch.tensor([ids + tokens(events)])).logits[0].log_softmax(-1)
    for i, event in enumerate(events):
        row = full[len(ids) - 1 + i]
        assert event.logprob == pytest.approx(float(row[event.token]), abs=1e-4)
        values, best = row.topk(3)
        assert [t for t, _ in event.top] == best.tolist()
        assert [v for _, v in event.top] == pytest.approx(values.tolist(), abs=1e-4)
    first, *rest = types.read_float32(events[0].prompt_logprobs)
    assert math.isnan(first)
    assert rest == pytest.approx([float(full[i, t]) for i, t in enumerate(ids[1:])], abs=1e-4)
    assert events[1].prompt_logprobs == b""


def test_the_same_seed_gives_the_same_tokens_whoever_else_decodes(core: EngineCore) -> None:
    settings: dict[str, Any] = {"temperature": 1.0, "seed": 11, "top_k": 20, "top_p": 0.95}
    core.admit(request("alone", prompt(9), 20, **settings))
    alone = tokens(drain(core)["alone"])
    for i in range(4):
        core.admit(request(f"n{i}", prompt(30, i), 25, temperature=1.0, seed=i))
    core.tick()
    core.admit(request("with", prompt(9), 20, **settings))
    core.admit(request("other", prompt(9), 20, **(settings | {"seed": 12})))
    events = drain(core)
    assert tokens(events["with"]) == alone
    assert tokens(events["other"]) != alone


def test_a_stop_token_ends_the_stream_and_is_told(core: EngineCore, directory: Path) -> None:
    expected = greedy(tiny.reference(directory), prompt(20), 12)
    stop = expected[4]
    core.admit(request("a", prompt(20), stop_token_ids=(stop,)))
    events = drain(core)["a"]
    assert tokens(events) == expected[: expected.index(stop) + 1]
    assert events[-1].finish == "stop"


def test_a_cancelled_stream_gives_no_more_and_disturbs_nobody(core: EngineCore, directory: Path) -> None:
    for n in (5, 20, 9):
        core.admit(request(f"s{n}", prompt(n)))
    first = core.tick() + core.tick()
    assert core.cancel("s5")
    assert not core.cancel("s5")
    events = drain(core)
    assert "s5" not in events
    model = tiny.reference(directory)
    for n in (20, 9):
        mine = [e.token for name, e in first if name == f"s{n}"] + tokens(events[f"s{n}"])
        assert mine == greedy(model, prompt(n), 12)


def test_a_parked_stream_waits_and_then_goes_on_where_it_was(core: EngineCore, directory: Path) -> None:
    core.admit(request("a", prompt(7)))
    core.admit(request("b", prompt(30)))
    got = tokens([e for name, e in core.tick() if name == "a"])
    for _ in range(3):
        assert [name for name, _ in core.tick(frozenset({"a"}))] == ["b"]
    assert core.tick(frozenset({"a", "b"})) == []
    got += tokens(drain(core)["a"])
    assert got == greedy(tiny.reference(directory), prompt(7), 12)


def test_the_end_of_the_context_ends_a_stream_by_length(core: EngineCore) -> None:
    core.admit(request("a", prompt(250), 100))
    core.admit(request("full", prompt(256), 100))
    events = drain(core)
    assert [len(events["a"]), len(events["full"])] == [6, 1]
    assert events["a"][-1].finish == events["full"][-1].finish == "length"


def test_more_streams_than_slots_wait_their_turn(core: EngineCore, directory: Path) -> None:
    core._sampler._max_streams = 3
    for i in range(7):
        core.admit(request(f"s{i}", prompt(5 + i), 4))
    core.tick()
    assert (core.stats().active_streams, core.stats().queued_streams) == (3, 4)
    events = drain(core)
    model = tiny.reference(directory)
    assert tokens(events["s6"]) == greedy(model, prompt(11), 4)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"logprobs": 97}, "logprobs"),
    ],
)
def test_settings_out_of_bounds_are_refused_by_name(core: EngineCore, changes: dict[str, Any], word: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=word):
        core.admit(request("a", prompt(5), **changes))


def test_prompts_that_cannot_be_read_are_refused(core: EngineCore) -> None:
    for bad in ([], [tiny.VOCAB], [-1]):
        with pytest.raises(errors.InvalidRequest, match=r"0\.\.95"):
            core.admit(request("a", bad))
    with pytest.raises(errors.InvalidRequest) as caught:
        core.admit(request("a", prompt(257)))
    assert caught.value.code == "context_length_exceeded"
    core.admit(request("a", prompt(5)))
    with pytest.raises(errors.Conflict):
        core.admit(request("a", prompt(5)))


def train_a_step(core: EngineCore, run_id: str, seed: int) -> None:
    running = core.begin_training([tiny.call(run_id, tiny.data((20, 30), seed=seed))])
    while not running.step():
        pass
    core.optim_step(run_id, 0.1)


def test_every_row_uses_its_own_adapter(core: EngineCore, directory: Path, tmp_path: Path) -> None:
    shapes: dict[str, dict[str, Any]] = {
        "run_a": {"lora_r": 3, "target_modules": ("q_proj", "up_proj")},
        "run_b": {"lora_r": 8},
    }
    expected: dict[str | None, list[int]] = {None: greedy(tiny.reference(directory), prompt(20), 12)}
    for i, (run, fields) in enumerate(shapes.items()):
        core.open_run(tiny.run_spec(run, tmp_path / run, **fields))
        train_a_step(core, run, i)
        core.save(run, "merged", str(tmp_path / f"{run}-merged"))
        expected[run] = greedy(tiny.reference(tmp_path / f"{run}-merged"), prompt(20), 12)
    core.save("run_b", "adapter", str(tmp_path / "saved"))
    for name in (None, "run_a", "run_b"):
        core.admit(request(str(name), prompt(20), run=name))
        core.tick()
    core.admit(request("saved", prompt(20), saved=tmp_path / "saved"))
    core.admit(request("None2", prompt(20)))
    late = drain(core)
    assert tokens(late["saved"]) == expected["run_b"]
    assert tokens(late["None2"]) == expected[None]
    assert len({tuple(ids) for ids in expected.values()}) == 3
    for name in (None, "run_a", "run_b"):
        assert tokens(late[str(name)]) == expected[name][12 - len(late[str(name)]) :]
    assert late["saved"][0].weights_version == late["run_b"][0].weights_version == "run_b@1"
    assert late["None2"][0].weights_version == "base"


def test_a_stream_keeps_the_weights_of_its_admission_and_the_next_one_gets_the_new(
    core: EngineCore, tmp_path: Path
) -> None:
    core.open_run(tiny.run_spec("run_a", tmp_path / "run"))
    train_a_step(core, "run_a", 1)
    core.admit(request("calm", prompt(20), 20, run="run_a"))
    calm = tokens(drain(core)["calm"])
    core.admit(request("old", prompt(20), 20, run="run_a"))
    core.tick()
    train_a_step(core, "run_a", 2)
    core.admit(request("new", prompt(20), 20, run="run_a"))
    events = drain(core)
    assert tokens(events["old"]) == calm[1:]
    assert {e.weights_version for e in events["old"]} == {"run_a@1"}
    assert {e.weights_version for e in events["new"]} == {"run_a@2"}
    core.save("run_a", "merged", str(tmp_path / "merged"))
    assert tokens(events["new"]) == greedy(tiny.reference(tmp_path / "merged"), prompt(20), 20)


def test_weights_that_nobody_reads_are_changed_in_place_and_still_seen(core: EngineCore, tmp_path: Path) -> None:
    core.open_run(tiny.run_spec("run_a", tmp_path / "run"))
    core.admit(request("base", prompt(5), 60))
    for step in (1, 2):
        train_a_step(core, "run_a", step)
        core.admit(request(f"s{step}", prompt(20), 6, run="run_a"))
        got: list[int] = []
        while len(got) < 6:
            got += [e.token for name, e in core.tick() if name == f"s{step}"]
        place = tmp_path / f"merged{step}"
        core.save("run_a", "merged", str(place))
        assert got == greedy(tiny.reference(place), prompt(20), 6)


def test_an_adapter_of_a_closed_run_lives_on_in_its_streams(core: EngineCore, tmp_path: Path) -> None:
    core.open_run(tiny.run_spec("run_a", tmp_path / "run"))
    train_a_step(core, "run_a", 1)
    core.admit(request("a", prompt(20), 20, run="run_a"))
    core.close_run("run_a")
    assert len(drain(core)["a"]) == 20
    with pytest.raises(errors.NotFound) as caught:
        core.admit(request("b", prompt(20), run="run_a"))
    assert caught.value.code == "run_not_open"


def spoil(core: EngineCore, run_id: str, tmp_path: Path, size: float) -> None:
    """Open a run and blow its weights up, as a learning rate that is far too high does."""
    spec = tiny.run_spec(run_id, tmp_path / run_id)
    core.open_run(spec)
    core._trainer.run(run_id).weights.flat.fill_(size)


def test_a_slot_of_diverged_weights_is_clean_for_the_next_stream(core: EngineCore, tmp_path: Path) -> None:
    core.admit(request("before", prompt(3)))
    before = tokens(drain(core)["before"])
    spoil(core, "run_a", tmp_path, 1e30)
    core.admit(request("bad", prompt(90), 20, run="run_a", logprobs=0))
    assert math.isnan(drain(core)["bad"][-1].logprob)
    core.admit(request("after", prompt(3)))
    core.admit(request("long", prompt(100)))
    assert tokens(drain(core)["after"]) == before


def test_diverged_weights_stay_in_their_own_rows(core: EngineCore, tmp_path: Path) -> None:
    core.admit(request("alone", prompt(3), 20))
    alone = tokens(drain(core)["alone"])
    spoil(core, "run_a", tmp_path, 3e38)
    core.admit(request("bad", prompt(9), 20, run="run_a"))
    core.admit(request("beside", prompt(3), 20))
    assert tokens(drain(core)["beside"]) == alone
