"""How fast the sandbox of a server answers, seen from here: five measurements, each through the public interface.

Times are those of whole requests, the client's own part included. Run it where the callers will be.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from trainyard.cli import edge, options, output
from trainyard.core import errors
from trainyard.sdk import AsyncClient
from trainyard.sdk import errors as sdk_errors
from trainyard.sdk.retry import RetryPolicy
from trainyard.sdk.sandbox import AsyncSession

WIDTH = 10
FILE_BYTES = 1 << 20
SIMPLE = "print('Hello, World!')"
COMPLEX = """\
import numpy as np
import pandas as pd
frame = pd.DataFrame(np.arange(40_000.0).reshape(10_000, 4), columns=list("abcd"))
print(frame.groupby(frame.a % 10).mean().shape)
"""
STATE = "data = [float(number) for number in range(100_000)]"
USE_STATE = "print(len(data))"

NAMES = {
    "simple": "Simple Python Execution",
    "complex": "Complex Python Execution",
    "concurrent": f"Concurrent Requests ({WIDTH}x)",
    "state": "State Persistence Overhead",
    "upload": "File Upload (1 MB)",
    "download": "File Download (1 MB)",
}

Answer = TypeVar("Answer")
Measurement = Callable[[AsyncClient, int], Awaitable[dict[str, list[float]]]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One block of the report.

    Attributes:
        name: Key of `NAMES`.
        times_ms: One per request.
        failure: Why there are none.
    """

    name: str
    times_ms: list[float]
    failure: str | None = None

    def figures_ms(self) -> dict[str, float]:
        """Give what the report shows: mean and quantiles, of requests at the same time mean and maximum."""
        mean = statistics.fmean(self.times_ms)
        if self.name == "concurrent":
            return {"Mean": mean, "Max": max(self.times_ms)}
        hundredths = statistics.quantiles(self.times_ms, n=100, method="inclusive")
        return {"Mean": mean, "P50": hundredths[49], "P99": hundredths[98]}


def render(outcomes: list[Outcome]) -> str:
    """Write the report."""
    blocks = ["=== Performance Test Results ==="]
    for outcome in outcomes:
        lines = [f"{NAMES[outcome.name]}:"]
        if outcome.failure is not None:
            lines.append(f"  Failed: {outcome.failure}")
        else:
            lines += [f"  {label + ':':<5} {value:.1f}ms" for label, value in outcome.figures_ms().items()]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def as_json(outcomes: list[Outcome]) -> dict[str, object]:
    """Give the report to machines: milliseconds by block, or why there are none."""
    return {
        one.name: {"failure": one.failure}
        if one.failure is not None
        else {f"{label.lower()}_ms": round(value, 3) for label, value in one.figures_ms().items()}
        | {"requests": len(one.times_ms)}
        for one in outcomes
    }


async def _said(session: AsyncSession, code: str, expected: str) -> None:
    """Run code that has to say this; anything else is no measurement."""
    ended = await session.run(code)
    if not ended.is_success or ended.stdout.strip() != expected:
        last = (ended.stderr.strip().splitlines() or [ended.error or f"it printed {ended.stdout[:80]!r}"])[-1]
        raise errors.TrainyardError(last)


async def _timed(times_ms: list[float], call: Awaitable[Answer]) -> Answer:
    """Make a call and note what it takes."""
    began_s = time.perf_counter()
    answer = await call
    times_ms.append((time.perf_counter() - began_s) * 1000)
    return answer


@asynccontextmanager
async def _sessions(client: AsyncClient, count: int) -> AsyncIterator[list[AsyncSession]]:
    """Give sessions that their first run begins, and remove them in the end."""
    made = [client.sandbox.session() for _ in range(count)]
    try:
        yield made
    finally:
        for session in made:
            if session.session_id is not None:
                await session.delete()


async def simple(client: AsyncClient, rounds: int) -> dict[str, list[float]]:
    """One print after the other, each in a new session."""
    return {"simple": await _one_by_one(client, rounds, SIMPLE, "Hello, World!")}


async def complex_(client: AsyncClient, rounds: int) -> dict[str, list[float]]:
    """NumPy and pandas, imported and used, in a new session each time."""
    return {"complex": await _one_by_one(client, rounds, COMPLEX, "(10, 3)")}


async def _one_by_one(client: AsyncClient, rounds: int, code: str, expected: str) -> list[float]:
    times_ms: list[float] = []
    async with _sessions(client, rounds) as sessions:
        for session in sessions:
            await _timed(times_ms, _said(session, code, expected))
    return times_ms


async def concurrent(client: AsyncClient, rounds: int) -> dict[str, list[float]]:
    """Ten prints at the same moment, again and again."""
    times_ms: list[float] = []
    for _ in range(rounds):
        async with _sessions(client, WIDTH) as sessions:
            await asyncio.gather(*(_timed(times_ms, _said(one, SIMPLE, "Hello, World!")) for one in sessions))
    return {"concurrent": times_ms}


async def state(client: AsyncClient, rounds: int) -> dict[str, list[float]]:
    """A session's variables written down, fetched, given to a new interpreter and used there: 100,000 floats in a list.

    What a session pays that moves or comes back after a restart; one that stays pays none of it.
    """
    times_ms: list[float] = []
    with tempfile.TemporaryDirectory() as directory:
        async with _sessions(client, 1) as (session,):
            for _ in range(rounds):
                await _said(session, STATE, "")
                await _timed(times_ms, _there_and_back(client, session, Path(directory) / "state"))
    return {"state": times_ms}


async def _there_and_back(client: AsyncClient, session: AsyncSession, file: Path) -> None:
    await session.export_state(file)
    content = await asyncio.to_thread(file.read_bytes)
    with sdk_errors.translated():
        answer = await client.session.post(f"/v1/code/state/{session.own_id}", content=content)
    if answer.is_error:
        raise sdk_errors.from_response(answer)
    await _said(session, USE_STATE, "100000")


async def files(client: AsyncClient, rounds: int) -> dict[str, list[float]]:
    """A megabyte stored in a session, another each time, and fetched again."""
    up_ms: list[float] = []
    down_ms: list[float] = []
    with tempfile.TemporaryDirectory() as directory:
        source, target = Path(directory) / "data.bin", Path(directory) / "back.bin"
        async with _sessions(client, 1) as (session,):
            for number in range(rounds):
                source.write_bytes(number.to_bytes(8, "big") * (FILE_BYTES // 8))
                (stored,) = (await _timed(up_ms, session.upload(source))).files
                await _timed(down_ms, session.download(stored["fileId"], target))
                if target.read_bytes() != source.read_bytes():
                    raise errors.TrainyardError("the file came back with another content")
    return {"upload": up_ms, "download": down_ms}


MEASUREMENTS: dict[tuple[str, ...], Measurement] = {
    ("simple",): simple,
    ("complex",): complex_,
    ("concurrent",): concurrent,
    ("state",): state,
    ("upload", "download"): files,
}


async def measure(client: AsyncClient, rounds: int) -> list[Outcome]:
    """Make all measurements; one whose code fails on the server says so, and the others go on."""
    outcomes: list[Outcome] = []
    for names, measurement in MEASUREMENTS.items():
        try:
            found = await measurement(client, rounds)
            outcomes += [Outcome(name, found[name]) for name in names]
        except errors.TrainyardError as error:
            outcomes += [Outcome(name, [], error.message) for name in names]
    return outcomes


async def _over(url: str | None, key: str | None, rounds: int) -> list[Outcome]:
    client = AsyncClient(key, url, retry=RetryPolicy(attempts=1))
    try:
        await client.sandbox.languages()  # a server that is away, or a wrong key, is told before anything is measured
        return await measure(client, rounds)
    finally:
        await client.close()


tree = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@tree.command()
def perf_test(
    url: options.Url = None,
    key: options.Key = None,
    rounds: Annotated[int, typer.Option("--rounds", min=2, max=10_000, help="Requests, or bursts, of each kind.")] = 50,
    json_: options.AsJson = False,
) -> None:
    """Measure the sandbox of a server: simple and complex runs, ten at once, state, files."""
    outcomes = asyncio.run(_over(url, key, rounds))
    if json_:
        output.json_line(as_json(outcomes))
    else:
        print(render(outcomes))
    if any(outcome.failure is not None for outcome in outcomes):
        raise typer.Exit(1)


if __name__ == "__main__":
    sys.exit(edge.run(tree=tree))
