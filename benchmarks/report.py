"""Timing in rounds that take turns, and the report: a table for people, one JSON line for machines."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Result:
    """One measured number beside its rival's.

    Attributes:
        shape: What it was measured on; a name is reported once per shape.
        value: The number of the bar: a ratio, or a time.
        rival_value: What the rival reached, in the unit of the measurement; None where there is no rival.
        spread: (largest - smallest) / median of the rounds' values.
    """

    name: str
    shape: str
    value: float
    unit: str
    rival: str | None
    rival_value: float | None
    spread: float


def arguments(description: str) -> argparse.Namespace:
    """Read `--quick` and `--json`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="three rounds; ends within 240 s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the last line to FILE")
    return parser.parse_args()


def rounds(work: Mapping[str, Callable[[], object]], count: int) -> dict[str, list[float]]:
    """Time each piece of work in CPU seconds of this process, all once per round; the first round is thrown away."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for number in range(count + 1):
        for name, run in work.items():
            start = time.process_time()
            run()
            if number:
                seconds[name].append(time.process_time() - start)
    return seconds


def ratio(name: str, shape: str, rival: str, seconds: Mapping[str, list[float]], tokens: int) -> Result:
    """Compare `ours` with `theirs` round by round: the median ratio of tokens per CPU second, the rival's median."""
    ratios = [theirs / ours for ours, theirs in zip(seconds["ours"], seconds["theirs"], strict=True)]
    speed = tokens / statistics.median(seconds["theirs"])
    return Result(name, shape, statistics.median(ratios), "x", rival, speed, spread(ratios))


def spread(values: list[float]) -> float:
    """Give (largest - smallest) / median."""
    return (max(values) - min(values)) / statistics.median(values)


def publish(benchmark: str, results: list[Result], json_file: Path | None) -> None:
    """Print the table and, last, the JSON line; write that line to the file too when one is named."""
    print(f"{'result':26} {'shape':8} {'value':>9} {'unit':5} {'spread':>7}  rival")
    for r in results:
        rival = "" if r.rival is None else f"{r.rival}: {r.rival_value:.4g}" if r.rival_value is not None else r.rival
        print(f"{r.name:26} {r.shape:8} {r.value:9.3f} {r.unit:5} {r.spread:6.0%}  {rival}")
    line = json.dumps(
        {"benchmark": benchmark, "commit": commit(), "machine": machine(), "results": [asdict(r) for r in results]}
    )
    if json_file is not None:
        json_file.write_text(line + "\n", encoding="utf-8")
    print(line)


def commit() -> str:
    """Name the measured commit, with `-dirty` when tracked files differ from it; "unknown" outside a checkout."""
    shown = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return shown.stdout.strip() or "unknown"


def machine() -> dict[str, object]:
    """Describe what the numbers were made on, its load included."""
    import torch

    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "load_average": [round(v, 2) for v in os.getloadavg()],
    }
