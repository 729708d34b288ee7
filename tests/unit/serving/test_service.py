"""The service where HTTP alone does not reach: shared answers, a ledger that is away, callers that leave early."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.unit.serving.test_http import leave_after
from tests.unit.serving.yard import ANSWER, MODEL, RUN, Yard, events
from trainyard.core import errors
from trainyard.core.catalog import ModelRegistry
from trainyard.core.principal import Principal
from trainyard.engine import calls
from trainyard.serving import deadline
from trainyard.serving.call import Call
from trainyard.serving.service import revisions
from trainyard.serving.types import Ask, Target

GREEDY: dict[str, Any] = {"prompt": "hi", "temperature": 0}
ANN = Principal("default", "ann", "key_1", frozenset({"generate"}))


def generated(yard: Yard) -> int:
    return sum(isinstance(call, calls.Generate) for call in yard.engine.seen)


async def flushed(yard: Yard) -> None:
    assert yard.answers is not None
    await yard.answers.flush()


# ---------------------------------------------------------------- shared answers
async def test_an_answer_of_another_process_is_found_in_what_they_share(yard: Yard, client: httpx.AsyncClient) -> None:
    await client.post("/v1/generate", json=GREEDY)
    await flushed(yard)
    other = await yard.client(app=yard.app())
    answers = await asyncio.gather(*[other.post("/v1/generate", json=GREEDY) for _ in range(5)])
    assert [answer.json()["cached"] for answer in answers] == [True] * 5
    assert generated(yard) == 1


async def test_a_batch_finds_what_is_shared_too(yard: Yard, client: httpx.AsyncClient) -> None:
    await client.post("/v1/generate", json=GREEDY)
    await flushed(yard)
    other = await yard.client(app=yard.app())
    answer = await other.post("/v1/generate/batch", json={"prompts": ["hi"], "temperature": 0})
    assert answer.json()["results"][0]["cached"] is True


async def test_a_batch_may_ask_for_fresh_answers_and_leaves_them_for_others(
    yard: Yard, client: httpx.AsyncClient
) -> None:
    await client.post("/v1/generate", json=GREEDY)
    body = {"prompts": ["hi", "hi"], "temperature": 0}
    fresh = await client.post("/v1/generate/batch", json=body, headers={"cache-control": "no-cache"})
    assert [one["cached"] for one in fresh.json()["results"]] == [False, True]
    assert generated(yard) == 2


async def test_what_runs_in_the_background_is_started_and_ended_with_the_service(yard: Yard) -> None:
    service = yard.service()
    await service.start()
    work = await service.open(Call(ANN, "/v1/generate", "req_1"), ask())
    await work.collect()
    await work.settle()
    await service.aclose()
    found = yard.service()
    again = await found.open(Call(ANN, "/v1/generate", "req_2"), ask())
    assert again.origin == "hit"
    await again.leave()


def ask(**more: Any) -> Ask:
    return Ask(model=None, prompts=["hi"], param="prompt", **{"default_max_tokens": 30, "temperature": 0.0, **more})


# ---------------------------------------------------------------- a ledger that is away
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/generate", {"prompt": "hi"}),
        ("/v1/generate/batch", {"prompts": ["hi", "ho"]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}),
    ],
)
async def test_an_answer_that_cannot_be_charged_does_not_go_out(
    yard: Yard, client: httpx.AsyncClient, path: str, body: dict[str, Any]
) -> None:
    yard.meter.loses = True
    answer = await client.post(path, json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "ledger_unavailable")
    assert yard.meter.running == []
    assert yard.meter.opened[-1].is_refunded


async def test_a_stream_that_cannot_be_charged_has_no_end(yard: Yard, client: httpx.AsyncClient) -> None:
    yard.meter.loses = True
    async with client.stream("POST", "/v1/stream", json={"prompt": "hi"}) as answer:
        seen = [event async for event in events(answer)]
    assert seen[-1]["error"]["code"] == "ledger_unavailable"
    assert "[DONE]" not in seen
    assert yard.meter.opened[-1].is_refunded


@pytest.mark.parametrize("path", ["/v1/generate", "/v1/generate/batch", "/v1/stream"])
async def test_leaving_is_quiet_when_the_ledger_is_away(yard: Yard, path: str) -> None:
    yard.engine = yard.new_engine("x" * 40, token_s=0.02)
    app = yard.app()
    client = await yard.client(app=app)
    yard.meter.loses = True
    body = {"prompts": ["hi", "ho"]} if path.endswith("batch") else {"prompt": "hi"}
    await leave_after(app, path, body, client.headers["authorization"], 0.1)
    assert yard.meter.opened[-1].is_refunded
    assert (await yard.engine.stats()).active_streams == 0


async def test_what_a_broken_stream_delivered_is_not_charged_when_the_ledger_is_away(
    yard: Yard, client: httpx.AsyncClient
) -> None:
    yard.meter.loses = True
    yard.engine.die_after_tokens(4)
    async with client.stream("POST", "/v1/stream", json={"prompt": "hi"}) as answer:
        seen = [event async for event in events(answer)]
    assert seen[-1]["error"]["code"] == "engine_restarting"
    assert yard.meter.opened[-1].is_refunded


# ---------------------------------------------------------------- leaving early
@pytest.mark.parametrize("path", ["/v1/generate", "/v1/generate/batch", "/v1/stream"])
async def test_who_leaves_before_he_is_let_in_leaves_nothing_behind(yard: Yard, path: str) -> None:
    app = yard.app()
    client = await yard.client(app=app)
    yard.meter.held.clear()
    body = {"prompts": ["hi"], "temperature": 0} if path.endswith("batch") else GREEDY
    await leave_after(app, path, body, client.headers["authorization"], 0.05)
    yard.meter.held.set()
    assert yard.meter.opened == []
    assert (await client.post("/v1/generate", json=GREEDY)).json()["output"] == ANSWER


async def test_who_waited_behind_one_that_left_goes_first_himself(yard: Yard) -> None:
    app = yard.app()
    client = await yard.client(app=app)
    yard.meter.held.clear()
    leaving = asyncio.create_task(leave_after(app, "/v1/generate", GREEDY, client.headers["authorization"], 0.05))
    await asyncio.sleep(0.02)
    waiting = asyncio.create_task(client.post("/v1/generate", json=GREEDY))
    await leaving
    yard.meter.held.set()
    assert (await waiting).json() == {"model": MODEL, "output": ANSWER, "cached": False}


async def test_who_leaves_what_others_share_pays_nothing(yard: Yard) -> None:
    yard.engine = yard.new_engine("x" * 30, token_s=0.01)
    app = yard.app()
    client = await yard.client(app=app)
    first = asyncio.create_task(client.post("/v1/generate", json=GREEDY))
    await asyncio.sleep(0.05)
    await leave_after(app, "/v1/generate", GREEDY, client.headers["authorization"], 0.05)
    assert (await first).json()["cached"] is False
    assert [(one.job.cached, one.used.outcome) for one in yard.meter.settled if one.used] == [
        (False, "done"),
        (True, "cancelled"),
    ]


# ---------------------------------------------------------------- models and revisions
async def test_a_model_whose_upstream_is_down_is_listed_as_unavailable(yard: Yard, client: httpx.AsyncClient) -> None:
    yard.down = {"yard/parrot", MODEL}
    cards = {card["id"]: card["status"] for card in (await client.get("/v1/models")).json()["data"]}
    assert cards == {
        MODEL: "unavailable",
        "yard/plain": "available",
        "yard/off": "off",
        "yard/parrot": "unavailable",
        RUN.name: "unavailable",
    }


async def test_a_saved_adapter_is_its_directory_at_its_time(yard: Yard, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    saved.mkdir()
    adapter = replace(RUN, name=f"{RUN.name}@3", checkpoint_dir=str(saved))
    named = revisions.Revisions(yard.service()._models._revisions._engines)
    base = yard.models.entry(MODEL)
    first = await named.of_run(base, adapter)
    assert first == await named.of_run(base, adapter)
    (saved / "adapter_model.safetensors").write_bytes(b"new")
    assert await named.of_run(base, adapter) != first
    gone = replace(adapter, checkpoint_dir=str(tmp_path / "gone"))
    assert (await named.of_run(base, gone)).endswith("/gone")


def test_only_a_live_run_can_have_moved_on() -> None:
    live = Target(RUN.name, MODEL, RUN, f"r/5/{RUN.run_id}@3")
    assert revisions.answered(live, f"{RUN.run_id}@4") == f"r/5/{RUN.run_id}@4"
    saved = replace(live, adapter=replace(RUN, checkpoint_dir="x"), revision="r")
    assert revisions.answered(saved, "anything") == "r"
    assert revisions.answered(Target(MODEL, MODEL, None, "r"), "base") == "r"


async def test_an_adapter_of_the_catalog_follows_its_base_and_its_files(yard: Yard, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    file = tmp_path / "with_adapter.yaml"
    file.write_text(
        f"models:\n  - {{name: {MODEL}, path: bytes}}\n"
        f"  - {{name: yard/tuned, backend: adapter, base: {MODEL}, path: adapter}}\n"
    )
    yard.models = ModelRegistry(file)
    service = yard.service()
    target = await service.target(ANN, "yard/tuned")
    base, own = yard.models.entry(MODEL).revision, yard.models.entry("yard/tuned").revision
    assert (target.name, target.base_model, target.revision) == ("yard/tuned", "yard/tuned", f"{base}/{own}")
    assert (await service.show_model(ANN, "yard/tuned")).root == MODEL


async def test_a_catalog_that_was_read_again_has_new_targets(yard: Yard, tmp_path: Path) -> None:
    service = yard.service()
    first = await service.target(ANN, "yard/parrot")
    assert await service.target(ANN, "yard/parrot") is first
    file = tmp_path / "models.yaml"
    file.write_text(file.read_text().replace("name: yard/parrot,", "name: yard/parrot, prices: {prompt: 1},"))
    yard.models.reload()
    assert (await service.target(ANN, "yard/parrot")).prices.prompt == 1_000_000


@pytest.mark.parametrize("share", ["tenant", "all"])
async def test_prompts_share_beginnings_within_a_tenant_or_with_everybody(yard: Yard, share: Any) -> None:
    service = yard.service()
    service._models._share_prefixes = share
    scopes = {
        (await service.target(replace(ANN, tenant=tenant), MODEL)).prefix_scope for tenant in ("default", "elsewhere")
    }
    assert scopes == ({"default", "elsewhere"} if share == "tenant" else {"*"})


# ---------------------------------------------------------------- deadlines
async def test_work_that_does_not_wait_has_no_deadline() -> None:
    async def quick() -> int:
        return 3

    assert await deadline.within(-1.0, quick()) == 3


async def test_work_that_waits_too_long_is_cancelled() -> None:
    seen: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(0.001)
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    with pytest.raises(TimeoutError):
        await deadline.within(0.02, slow())
    assert seen == ["cancelled"]


async def test_what_work_makes_of_a_cancellation_is_its_own_matter() -> None:
    async def stubborn(swallowed: list[str]) -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            swallowed.append("once")
            await asyncio.sleep(0.001)
        return "done"

    async def told() -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.get_running_loop().create_future()
        return "left"

    swallowed: list[str] = []
    assert await deadline.within(0.01, stubborn(swallowed)) == "done"
    assert swallowed == ["once"]
    task = asyncio.create_task(deadline.within(60.0, told()))
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "left"


async def test_errors_of_work_come_through_before_and_after_it_waits() -> None:
    async def failing(waits: bool) -> None:
        if waits:
            await asyncio.sleep(0)
        raise errors.NotFound("gone")

    for waits in (False, True):
        with pytest.raises(errors.NotFound):
            await deadline.within(1.0, failing(waits))


class Nothing:
    """Writes nothing of what comes."""

    def write(self, index: int, piece: Any) -> bytes:
        return b""

    def end(self) -> bytes:
        return b""


async def test_a_silence_is_told_to_whoever_reads_a_stream(yard: Yard) -> None:
    from trainyard.serving.routes import sse
    from trainyard.serving.routes.answering import Frames

    work = await yard.service().open(Call(ANN, "/v1/stream", "req_1", is_stream=True), ask(temperature=1.0))
    await work.take()
    frames: AsyncGenerator[bytes, None] = Frames(None, work, Nothing(), "native", None, [])  # type: ignore[arg-type]
    assert await anext(frames) == sse.HEARTBEAT == b": still working\n\n"
    await frames.aclose()
    assert [one.used.outcome for one in yard.meter.settled if one.used] == ["cancelled"]


async def test_a_stream_that_is_thrown_at_is_left(yard: Yard) -> None:
    """Whoever drives a generator may throw into it instead of closing it."""
    from trainyard.serving.routes.answering import Frames

    service = yard.service()
    work = await service.open(Call(ANN, "/v1/stream", "req_1", is_stream=True), ask(temperature=1.0))
    first = await work.take()

    frames: AsyncGenerator[bytes, None] = Frames(None, work, Nothing(), "native", None, first)  # type: ignore[arg-type]
    with pytest.raises(StopAsyncIteration):
        await frames.athrow(RuntimeError("gone"))
    with pytest.raises(StopAsyncIteration):
        await anext(frames)
    assert [one.used.outcome for one in yard.meter.settled if one.used] == ["cancelled"]


# ---------------------------------------------------------------- what equal requests do not share
async def test_who_waits_for_another_gets_nothing_older_than_he_asked_for(
    yard: Yard, client: httpx.AsyncClient
) -> None:
    await client.post("/v1/generate", json=GREEDY)
    await flushed(yard)
    yard.clock.advance(100)
    other = await yard.client(app=yard.app())
    headers: list[dict[str, str]] = [{}, {"cache-control": "max-age=10"}]
    answers = await asyncio.gather(*[other.post("/v1/generate", json=GREEDY, headers=one) for one in headers])
    assert [answer.headers["x-trainyard-cache"] for answer in answers] == ["hit", "miss"]
    assert generated(yard) == 2


async def test_who_waits_for_a_batch_is_told_of_his_own_field(yard: Yard, client: httpx.AsyncClient) -> None:
    body = {"temperature": 0, "max_new_tokens": 30}
    answers = await asyncio.gather(
        client.post("/v1/generate/batch", json={"prompts": ["x" * 40, "hi"], **body}),
        client.post("/v1/generate", json={"prompt": "x" * 40, **body}),
    )
    assert [answer.json()["error"]["param"] for answer in answers] == ["prompts[0]", "prompt"]
