"""`python -m benchmarks.gateway`: CPU of the whole process tree per forwarded request and per cache hit."""

import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import report, setup
from benchmarks.gateway import gateways, load
from benchmarks.gateway.gateways import Gateway
from benchmarks.gateway.load import Load
from benchmarks.report import Result
from benchmarks.shapes import GATEWAY_ALONE, GATEWAY_BODY_BYTES, GATEWAY_CONNECTIONS, GATEWAY_SHAPE

PATH = "/v1/chat/completions"
WARM_S = 1.0
SETTLE_S = 0.4
"""After the load: what is written later belongs to it."""


def main() -> int:
    """Measure in turns, print the table and the JSON line."""
    given = report.arguments(__doc__ or "")
    rounds, seconds = (3, 3.0) if given.quick else (7, 8.0)
    setup.make("litellm")
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trainyard-bench-")))
        upstream = stack.enter_context(gateways.upstream(directory))
        ours = stack.enter_context(gateways.ours(directory / "ours", upstream))
        bare = stack.enter_context(gateways.bare(directory / "bare", upstream))
        still = stack.enter_context(gateways.bare(directory / "still"))
        theirs = stack.enter_context(gateways.litellm(directory / "litellm", upstream))
        work: dict[str, Callable[[float], float]] = {}
        for shape, connections in ((GATEWAY_SHAPE, GATEWAY_CONNECTIONS), (GATEWAY_ALONE, 1)):
            work[f"forward {shape}"] = partial(_cost_us, ours, _body(0.7), connections)
            work[f"bare {shape}"] = partial(_cost_us, bare, _body(0.7), connections)
            work[f"hit {shape}"] = partial(_cost_us, ours, _body(0.0), connections)
            work[f"still {shape}"] = partial(_cost_us, still, _body(0.0), connections)
        work["litellm"] = partial(_cost_us, theirs, _body(0.7), GATEWAY_CONNECTIONS)
        measured = _in_turns(work, rounds, seconds)
    report.publish("gateway", _results(measured), given.json)
    return 0


def _in_turns(work: dict[str, Callable[[float], float]], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Measure everything once per round, after a short one that fills caches and opens connections."""
    for run in work.values():
        run(WARM_S)
    measured: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, run in work.items():
            measured[name].append(run(seconds))
    return measured


def _cost_us(gateway: Gateway, body: str, connections: int, seconds: float) -> float:
    asked = Load(gateway.tree.port, PATH, gateway.key, body, connections, seconds)
    load.once(asked)  # some need seconds for their first request
    before_s = gateway.tree.cpu_s()
    answered = load.run(asked)
    time.sleep(SETTLE_S)
    return (gateway.tree.cpu_s() - before_s) / answered * 1e6


def _body(temperature: float) -> str:
    """Make a body of `GATEWAY_BODY_BYTES`; only one of temperature 0 may be answered from the cache."""
    made = {
        "model": gateways.MODEL,
        "messages": [{"role": "user", "content": ""}],
        "temperature": temperature,
        "max_tokens": 16,
    }
    room = GATEWAY_BODY_BYTES - len(json.dumps(made))
    made["messages"] = [{"role": "user", "content": ("word " * room)[:room]}]
    return json.dumps(made)


def _results(measured: dict[str, list[float]]) -> list[Result]:
    ours, theirs = measured[f"forward {GATEWAY_SHAPE}"], measured["litellm"]
    ratios = [their_us / our_us for our_us, their_us in zip(ours, theirs, strict=True)]
    median_us = statistics.median(theirs)
    return [
        _forward("forward_cpu_us", GATEWAY_SHAPE, measured),
        Result(
            "vs_litellm",
            GATEWAY_SHAPE,
            statistics.median(ratios),
            "x",
            gateways.version(),
            median_us,
            report.spread(ratios),
        ),
        _hit("cache_hit_cpu_us", GATEWAY_SHAPE, measured),
        _forward("forward_alone_cpu_us", GATEWAY_ALONE, measured),
        _hit("cache_hit_alone_cpu_us", GATEWAY_ALONE, measured),
    ]


def _forward(name: str, shape: str, measured: dict[str, list[float]]) -> Result:
    return _cost(name, shape, measured[f"forward {shape}"], "bare aiohttp", measured[f"bare {shape}"])


def _hit(name: str, shape: str, measured: dict[str, list[float]]) -> Result:
    return _cost(name, shape, measured[f"hit {shape}"], "bare uvicorn", measured[f"still {shape}"])


def _cost(name: str, shape: str, costs_us: list[float], rival: str, rival_us: list[float]) -> Result:
    costs = statistics.median(costs_us), statistics.median(rival_us)
    return Result(name, shape, costs[0], "us", rival, costs[1], report.spread(costs_us))


if __name__ == "__main__":
    sys.exit(main())
