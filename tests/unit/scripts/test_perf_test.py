"""The report of scripts/perf_test.py has the form of the guide, to the blank."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import perf_test
from scripts.perf_test import Outcome

ROOT = Path(__file__).parents[3]

# 28, 28 and 41.5 ms: mean 32.5, median 28; a hundredth below the end of two gaps is 28 + 0.98 * 13.5 = 41.23
THREE = [28.0, 41.5, 28.0]

REPORT = """\
=== Performance Test Results ===

Simple Python Execution:
  Mean: 32.5ms
  P50:  28.0ms
  P99:  41.2ms

Complex Python Execution:
  Failed: ModuleNotFoundError: No module named 'numpy'

Concurrent Requests (10x):
  Mean: 45.0ms
  Max:  180.0ms

State Persistence Overhead:
  Mean: 32.5ms
  P50:  28.0ms
  P99:  41.2ms

File Upload (1 MB):
  Mean: 32.5ms
  P50:  28.0ms
  P99:  41.2ms

File Download (1 MB):
  Mean: 32.5ms
  P50:  28.0ms
  P99:  41.2ms"""

OUTCOMES = [
    Outcome("simple", THREE),
    Outcome("complex", [], "ModuleNotFoundError: No module named 'numpy'"),
    Outcome("concurrent", [0.0, 180.0, 0.0, 0.0]),
    Outcome("state", THREE),
    Outcome("upload", THREE),
    Outcome("download", THREE),
]


def test_the_report_has_the_form_of_the_guide() -> None:
    assert perf_test.render(OUTCOMES) == REPORT


def test_machines_get_the_same_numbers() -> None:
    told = perf_test.as_json(OUTCOMES)
    assert told["simple"] == {"mean_ms": 32.5, "p50_ms": 28.0, "p99_ms": 41.23, "requests": 3}
    assert told["concurrent"] == {"mean_ms": 45.0, "max_ms": 180.0, "requests": 4}
    assert told["complex"] == {"failure": "ModuleNotFoundError: No module named 'numpy'"}
    assert json.loads(json.dumps(told)) == told


def test_every_block_is_measured_by_somebody() -> None:
    assert [name for names in perf_test.MEASUREMENTS for name in names] == list(perf_test.NAMES)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--url", "http://127.0.0.1:1"], 7, "start a server with `trainyard up` or name one with --url"),
        (["--rounds", "1"], 2, "Input should be greater than or equal to 2"),
    ],
)
def test_it_ends_as_the_commands_of_trainyard_do(arguments: list[str], code: int, says: str) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "perf_test.py"), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert says in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
