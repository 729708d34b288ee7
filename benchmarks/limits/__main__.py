"""Limits under 200 callers in one process, and under 4 x 200 on one Redis; `python -m benchmarks.limits`.

A third of the work are streams that use less than was reserved, a tenth fails and is refunded; callers retry to the end
of the window. What was let through is told from the moments that callers wrote down, and compared with the ledger.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from sqlalchemy import text

from benchmarks import observer, report
from benchmarks.limits import scenarios
from benchmarks.limits.callers import Record
from benchmarks.limits.scenarios import Scenario
from benchmarks.observer import Mark
from tests.services.redis import RedisServer, program
from trainyard.core.db import Database

PROCESSES = {"memory": 1, "redis": 4}
_CALLS_PER_S = 4000
"""Retries of all callers together; more would only keep two cores busy with refusals."""
_LEAD_S = 0.3


@dataclass(frozen=True)
class Crew:
    """Running processes of callers of one kind, and the database of their ledger."""

    kind: str
    processes: list[subprocess.Popen[str]]
    database: Database

    def run(self, scenario: Scenario, number: int) -> list[Record]:
        """Let all of them ask at the same time; returns what was let in."""
        start_s = time.monotonic() + _LEAD_S
        for place, process in enumerate(self.processes):
            asked = {"scenario": scenario.name, "tenant": self.tenant(scenario, number), "start_s": start_s}
            assert process.stdin is not None
            process.stdin.write(json.dumps(asked | {"seed": 100 * number + place}) + "\n")
            process.stdin.flush()
        return [tuple(record) for process in self.processes for record in json.loads(_line(process))]

    def tenant(self, scenario: Scenario, number: int) -> str:
        """A subject of its own for every run."""
        return f"{self.kind}-{scenario.name}-{number}"

    def charge_before(self, tenant: str, tokens: int) -> None:
        """Give a tenant usage of an earlier day of this month, or of this moment on the first."""
        values = {"tenant": tenant, "tokens": tokens, "at": time.time() - 1}
        with self.database.begin() as connection:
            connection.execute(
                text(
                    "INSERT INTO core_usage VALUES (:tenant, :at, :tenant, 'x', 'x', 'x', 'x', 'x', 'done', false, "
                    ":tokens, 0, 0, :tokens, 0, 0)"
                ),
                values,
            )

    def in_ledger(self, tenant: str) -> int:
        """Sum what the ledger has."""
        with self.database.read() as connection:
            query = text("SELECT sum(charged_tokens) FROM core_usage WHERE tenant = :tenant")
            return int(connection.execute(query, {"tenant": tenant}).scalar() or 0)


@dataclass(frozen=True)
class Seen:
    """What came of one run.

    Attributes:
        over: How far above a bar, of the worst bar; 0 when none was broken.
        used_share: Of the bar; 0 for scenarios that do not measure it.
        unused: Of the bar.
        ledger_off: Tokens by which ledger and callers differ.
    """

    over: int
    used_share: float
    unused: int
    ledger_off: int


def main() -> None:
    """Measure and print the report."""
    options = report.arguments(__doc__ or "")
    rounds = 3 if options.quick else 5
    seen: dict[tuple[str, str], list[Seen]] = defaultdict(list)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trainyard-limits-")))
        redis_url = stack.enter_context(_redis(directory))
        crews = [stack.enter_context(_crew(kind, directory, redis_url)) for kind in PROCESSES]
        plan = [(scenario, number) for number in range(rounds) for scenario in scenarios.MEASURED]
        plan += [(scenario, rounds) for scenario in scenarios.WATCHED]
        for scenario, number in plan:
            for crew in crews:
                seen[crew.kind, scenario.name].append(watch(crew, scenario, number))
    results = [each for (kind, name), runs in seen.items() for each in _results(kind, scenarios.ALL[name], runs)]
    report.publish("limits", sorted(results, key=lambda each: (each.name, each.shape)), options.json)


def watch(crew: Crew, scenario: Scenario, number: int) -> Seen:
    """Run one scenario and look at it from outside."""
    tenant, before = crew.tenant(scenario, number), 0
    if scenario.quota is not None:
        before = scenarios.CHARGED_BEFORE
        crew.charge_before(tenant, before)
    records = crew.run(scenario, number)
    charged = before + sum(record[4] for record in records if record[4] >= 0)
    measures = [(most, bar) for most, bar in _against_bars(scenario, records, charged) if bar is not None]
    tightest_most, tightest_bar = max(measures, key=lambda measure: measure[0] / measure[1])
    return Seen(
        over=max(0, *[most - bar for most, bar in measures]),
        used_share=tightest_most / tightest_bar,
        unused=tightest_bar - tightest_most,
        ledger_off=abs(crew.in_ledger(tenant) - charged),
    )


def _against_bars(scenario: Scenario, records: Sequence[Record], charged: int) -> Iterator[tuple[int, int | None]]:
    limits, window_s = scenario.limits, scenarios.WINDOW_S
    kept = [record for record in records if record[4] >= 0]
    begun = [Mark(asked_s, begun_s) for asked_s, begun_s, _, _, _ in kept]
    settled = [Mark(ended_s, told_s, tokens) for _, _, ended_s, told_s, tokens in kept]
    yield observer.most_in_a_window(begun, window_s), limits.requests
    yield observer.most_in_a_window(settled, window_s), limits.tokens
    yield observer.most_at_once([(begun_s, ended_s) for _, begun_s, ended_s, _, _ in records]), limits.concurrency
    yield charged, scenario.quota.tokens if scenario.quota is not None else None


def _results(kind: str, scenario: Scenario, runs: Sequence[Seen]) -> Iterator[report.Result]:
    shape = f"{kind} x{PROCESSES[kind]} {scenario.name}"
    over, off = [run.over for run in runs], [run.ledger_off for run in runs]
    yield report.Result("over_limit", shape, max(over), "", None, None, 0.0)
    yield report.Result("ledger_off", shape, max(off), "tok", None, None, 0.0)
    if scenario is not scenarios.SLIDING:
        shares = [run.used_share for run in runs]
        yield report.Result("used_share", shape, median(shares), "", None, None, report.spread(shares))
    if scenario in (scenarios.TOKENS, scenarios.QUOTA):
        unused = max(run.unused for run in runs)
        yield report.Result("unused", shape, unused, "tok", "one largest request", scenarios.LARGEST, 0.0)


@contextmanager
def _redis(directory: Path) -> Iterator[str]:
    found = program()
    if found is None:
        raise SystemExit("this benchmark needs redis-server or valkey-server; apt-get install redis-server")
    server = RedisServer(found, directory)
    server.start()
    try:
        yield server.url()
    finally:
        server.stop()


@contextmanager
def _crew(kind: str, directory: Path, redis_url: str) -> Iterator[Crew]:
    url = f"sqlite:///{directory / kind}.db"
    database, count = Database(url), PROCESSES[kind]
    database.migrate()
    pause_s = scenarios.CALLERS * count / _CALLS_PER_S
    command = [sys.executable, "-m", "benchmarks.limits.callers", url, redis_url if count > 1 else "-", str(pause_s)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)
    ]
    try:
        for process in processes:
            assert _line(process) == "ready\n"
        yield Crew(kind, processes, database)
    finally:
        for process in processes:
            process.terminate()
            process.communicate(timeout=30)
        database.close()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit("a process of callers ended; its error is above")
    return line


if __name__ == "__main__":
    main()
