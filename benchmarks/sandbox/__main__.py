"""`python -m benchmarks.sandbox`: what isolated execution costs, one-shot and in sessions."""

import asyncio
import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from benchmarks import report, setup, trees
from benchmarks.report import Result
from benchmarks.sandbox import commands, jupyter, ours, timing
from benchmarks.sandbox.ours import Sandbox
from benchmarks.sandbox.timing import Call, Latencies
from benchmarks.shapes import SANDBOX_SESSIONS, SANDBOX_WIDTH

_GAP_S = 0.02
_BURST_GAP_S = 0.3
"""Between bursts, so that a pool can fill up again, as it is there for; the saturated rows are without a pause."""
_SATURATED_S = 4.0
_RIVALS = ("bare python", "bubblewrap", "jupyter fresh")


def main() -> int:
    """Measure in turns, print the table and the JSON line."""
    given = report.arguments(__doc__ or "")
    setup.make("jupyter")
    setup.make("sandbox")
    packages = setup.environment("sandbox")
    with tempfile.TemporaryDirectory(prefix="trainyard-bench-") as directory:
        results = asyncio.run(_measure(Path(directory), packages, 3 if given.quick else 7))
    report.publish("sandbox", results, given.json)
    return 0


async def _measure(directory: Path, packages: Path, rounds: int) -> list[Result]:
    python = packages / "bin" / "python"
    async with contextlib.AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(ours.running(directory, packages))
        port = stack.enter_context(jupyter.server(directory))
        gateway = jupyter.Gateway(await stack.enter_async_context(jupyter.client(port)))
        shots = _one_shots(sandbox, gateway, python)
        alone, bursts = await _alone(shots, rounds), await _bursts(shots, rounds)
        results = [_versus(alone, bursts), *_rows("oneshot_ms", "alone", alone), *_rows("oneshot_ms", "10", bursts)]
        results += await _saturation(shots)
        results += await _pandas(sandbox, python, rounds)
        results += await _sessions(sandbox, gateway, rounds)
        results += await _state(sandbox, python, directory)
        return results + await _density(sandbox)


def _one_shots(sandbox: Sandbox, gateway: jupyter.Gateway, python: Path) -> dict[str, Call]:
    """Name what runs `print(1)` in something fresh."""
    shots: dict[str, Call] = {
        "ours": sandbox.one_shot,
        "bare python": partial(commands.start, commands.bare(python)),
        "jupyter fresh": partial(gateway.fresh, ours.PRINT),
    }
    wrapped = commands.bubblewrapped(python)
    if wrapped is not None:
        shots["bubblewrap"] = partial(commands.start, wrapped)
    return shots


async def _alone(shots: Mapping[str, Call], rounds: int) -> dict[str, list[Latencies]]:
    """Run one after the other, a few of each in turn."""
    measured: dict[str, list[Latencies]] = {name: [] for name in shots}
    for _ in range(rounds):
        for name, call in shots.items():
            measured[name].append(Latencies())
            await timing.paced(call, 3 if name == "jupyter fresh" else 30, _GAP_S, measured[name][-1])
    return measured


async def _bursts(shots: Mapping[str, Call], rounds: int) -> dict[str, list[Latencies]]:
    """Run ten at the same moment, some bursts of each in turn; a fresh kernel takes seconds then, so that has one."""
    measured: dict[str, list[Latencies]] = {name: [] for name in shots}
    for _ in range(rounds):
        for name, call in shots.items():
            measured[name].append(Latencies())
            for _ in range(1 if name == "jupyter fresh" else 6):
                await timing.burst(call, SANDBOX_WIDTH, measured[name][-1])
                await asyncio.sleep(_BURST_GAP_S)
    return measured


async def _saturation(shots: Mapping[str, Call]) -> list[Result]:
    """Keep ten callers busy without a pause."""
    rates = {
        name: await timing.saturated(call, SANDBOX_WIDTH, _SATURATED_S)
        for name, call in shots.items()
        if name != "jupyter fresh"
    }
    return [
        Result("saturated_per_s", "10", rates["ours"], "1/s", name, rates[name], 0.0)
        for name in rates
        if name != "ours"
    ]


def _versus(alone: Mapping[str, list[Latencies]], bursts: Mapping[str, list[Latencies]]) -> Result:
    """Take the worse ratio of bare Python's median over ours, of runs alone and of ten at once."""
    ratios = {
        shape: [bare.p50 / own.p50 for own, bare in zip(measured["ours"], measured["bare python"], strict=True)]
        for shape, measured in (("alone", alone), ("10", bursts))
    }
    worse = min(ratios, key=lambda shape: statistics.median(ratios[shape]))
    bare_ms = statistics.median(each.p50 for each in {"alone": alone, "10": bursts}[worse]["bare python"])
    median = statistics.median(ratios[worse])
    return Result("oneshot_vs_python", worse, median, "x", "bare python", bare_ms, report.spread(ratios[worse]))


def _rows(name: str, shape: str, measured: Mapping[str, list[Latencies]]) -> list[Result]:
    return [_row(name, shape, measured["ours"], rival, measured[rival]) for rival in _RIVALS if rival in measured]


def _row(name: str, shape: str, own: list[Latencies], rival: str | None, theirs: list[Latencies]) -> Result:
    medians = [each.p50 for each in own]
    rival_ms = statistics.median(each.p50 for each in theirs) if theirs else None
    return Result(name, shape, statistics.median(medians), "ms", rival, rival_ms, report.spread(medians))


async def _pandas(sandbox: Sandbox, python: Path, rounds: int) -> list[Result]:
    own, bare = [Latencies() for _ in range(rounds)], [Latencies() for _ in range(rounds)]
    for one, other in zip(own, bare, strict=True):
        await timing.paced(sandbox.pandas, 6, _BURST_GAP_S, one)
        await timing.paced(partial(commands.start, commands.pandas(python)), 2, _GAP_S, other)
    return [_row("pandas_first_ms", "alone", own, "bare python", bare)]


async def _sessions(sandbox: Sandbox, gateway: jupyter.Gateway, rounds: int) -> list[Result]:
    session = await sandbox.session("x = 0")
    own, theirs = [Latencies() for _ in range(rounds)], [Latencies() for _ in range(rounds)]
    async with gateway.kernel() as kernel:  # no sooner: the gateway hangs up on a client that reads nothing
        await kernel.run("x = 0")
        for one, other in zip(own, theirs, strict=True):
            await timing.paced(partial(sandbox.run, "x += 1", session), 60, _GAP_S, one)
            await timing.paced(partial(kernel.run, "x += 1"), 30, _GAP_S, other)
    every = Latencies([ms for each in own for ms in each.ms])
    p99 = Result("session_p99_ms", "alone", every.percentile(0.99), "ms", None, None, 0.0)
    return [_row("session_ms", "alone", own, "jupyter kernel", theirs), p99]


async def _state(sandbox: Sandbox, python: Path, directory: Path) -> list[Result]:
    """Write 50 MB of variables down and bring them back, as the caller sees it."""
    saves, loads = Latencies(), Latencies()
    session = await sandbox.session(ours.FRAME_50_MB)
    await sandbox.durable(session)
    for _ in range(3):
        await sandbox.run("frame.iloc[0, 0] += 1", session)
        await timing.timed(partial(sandbox.durable, session), saves)
        await sandbox.put_out(session)
        await timing.timed(partial(sandbox.run, "frame.iloc[0, 0]", session), loads)
    told = await asyncio.to_thread(_recipe, python, directory)
    recipe = "lz4+base64+redis"
    return [
        Result("state_save_ms", "50MB", saves.p50, "ms", recipe, told.get("saves_ms"), report.spread(saves.ms)),
        Result("state_load_ms", "50MB", loads.p50, "ms", recipe, told.get("loads_ms"), report.spread(loads.ms)),
    ]


def _recipe(python: Path, directory: Path) -> dict[str, float]:
    """Run the usual recipe on a Redis of its own; nothing where there is none."""
    program = shutil.which("redis-server")
    if program is None:
        return {}
    port = trees.free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
    with trees.running(command, port, directory / "redis.log"):
        script = [str(python), str(Path(__file__).with_name("recipe.py")), str(port)]
        told = json.loads(subprocess.run(script, capture_output=True, text=True, check=True).stdout)
    return {name: statistics.median(values) for name, values in told.items()}


async def _density(sandbox: Sandbox) -> list[Result]:
    """Hold a hundred idle sessions, then call ten of them at the same moment."""
    before = await _settled(sandbox)
    sessions = [await sandbox.session(f"x = {number}") for number in range(SANDBOX_SESSIONS)]
    each_mb = (await _settled(sandbox) - before) / SANDBOX_SESSIONS / 1e6
    turns = iter(sessions * 3)
    called = Latencies()
    for _ in range(20):
        await timing.burst(lambda: sandbox.run("x += 1", next(turns)), SANDBOX_WIDTH, called)
    return [
        Result("session_idle_mb", str(SANDBOX_SESSIONS), each_mb, "MB", None, None, 0.0),
        Result("session_ms", "10of100", called.p50, "ms", None, None, 0.0),
    ]


async def _settled(sandbox: Sandbox) -> float:
    """Measure memory when nothing is being made or written down any more."""
    seen = [sandbox.memory_bytes()]
    while len(seen) < 4 or max(seen[-3:]) - min(seen[-3:]) > 1e6:
        await asyncio.sleep(0.5)
        seen.append(sandbox.memory_bytes())
    return seen[-1]


if __name__ == "__main__":
    sys.exit(main())
