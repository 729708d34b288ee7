"""Engines on `/metrics`: asked at most once a second, shown by model, down when they do not answer."""

from prometheus_client import CollectorRegistry

from trainyard.core import errors
from trainyard.core.clock import FakeClock
from trainyard.engine import types
from trainyard.engine.fake import FakeEngine
from trainyard.engine.metrics import EngineMetrics


def request(prefix_scope: str | None = None) -> types.GenerateRequest:
    sampling = types.Sampling(max_tokens=3)
    return types.GenerateRequest(
        stream_id="s", prompt=types.int32([1] * 40), sampling=sampling, prefix_scope=prefix_scope
    )


async def test_numbers_are_shown_by_model_and_asked_for_once_a_second() -> None:
    clock, engine = FakeClock(), FakeEngine()
    metrics = EngineMetrics(lambda: {"org/one": engine}, clock.monotonic)
    registry = CollectorRegistry()
    registry.register(metrics)

    def shown(name: str) -> float | None:
        return registry.get_sample_value(f"trainyard_engine_{name}", {"model": "org/one"})

    assert shown("up") is None
    await metrics.refresh()
    assert (shown("up"), shown("sampled_tokens_total"), shown("streams_active")) == (1.0, 0.0, 0.0)
    for _ in range(2):
        [event async for event in engine.generate(request("x"))]
    clock.advance(0.9)
    await metrics.refresh()
    assert shown("sampled_tokens_total") == 0.0
    clock.advance(0.1)
    await metrics.refresh()
    assert shown("sampled_tokens_total") == 6.0
    assert (shown("prompt_tokens_total"), shown("prefix_hit_tokens_total")) == (80.0, 32.0)
    await engine.aclose()


async def test_an_engine_that_does_not_answer_is_down_and_keeps_its_last_counts() -> None:
    clock, engine = FakeClock(), FakeEngine()
    engines = {"one": engine}
    metrics = EngineMetrics(lambda: engines, clock.monotonic)
    registry = CollectorRegistry()
    registry.register(metrics)
    [event async for event in engine.generate(request())]
    await metrics.refresh()
    engine.fail_next(errors.Unavailable("away"))
    clock.advance(1)
    await metrics.refresh()
    assert registry.get_sample_value("trainyard_engine_up", {"model": "one"}) == 0.0
    assert registry.get_sample_value("trainyard_engine_sampled_tokens_total", {"model": "one"}) == 3.0
    engines.clear()
    clock.advance(1)
    await metrics.refresh()
    assert registry.get_sample_value("trainyard_engine_sampled_tokens_total", {"model": "one"}) is None
    await engine.aclose()
