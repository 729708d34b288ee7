"""Runs the tests under branch coverage, subprocesses included, and holds the bars when asked to.

Bars: 90 % over all; 100 % of the lines of the key store, both registries, the Signal routes and the SDK.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FULL_LINES = (
    "*/trainyard/core/keys/*",
    "*/trainyard/core/http/auth.py",
    "*/trainyard/core/catalog/registry.py",
    "*/trainyard/training/store/*",
    "*/trainyard/training/routes/*",
    "*/trainyard/serving/routes/*",
    "*/trainyard/sdk/*",
)

PARALLEL = ("-n", "2", "--dist", "loadfile")
"""Two processes; the tests of one file stay together, since they share servers."""


def coverage(*args: str) -> int:
    """Run one coverage command in the repository."""
    return subprocess.run([sys.executable, "-m", "coverage", *args], cwd=ROOT, check=False).returncode


def uncovered_lines(report: Path) -> list[str]:
    """List the files of a JSON report that leave lines unvisited."""
    import json

    files = json.loads(report.read_text())["files"]
    return [f"{name}: lines {f['missing_lines']}" for name, f in files.items() if f["missing_lines"]]


def held() -> bool:
    """Print the report and check both bars."""
    over_all = coverage("report") == 0
    report = ROOT / ".coverage.full.json"
    coverage("json", "-q", "-o", str(report), "--include", ",".join(FULL_LINES), "--fail-under", "0")
    gaps = uncovered_lines(report)
    report.unlink()
    print("\n".join(gaps) if gaps else "keys, registries, routes and SDK: every line is visited")
    return over_all and not gaps


def main() -> int:
    """Run tests, combine, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gate", action="store_true", help="fail under the bars")
    parser.add_argument("pytest_args", nargs="*", default=["-q", *PARALLEL, "-m", "not slow and not gpu"])
    options = parser.parse_args()
    os.environ["COVERAGE_FILE"] = str(ROOT / ".coverage")
    coverage("erase")
    tests = coverage("run", "-m", "pytest", *options.pytest_args)
    coverage("combine", "-q")
    bars = held()
    if tests:
        return tests
    return 0 if bars or not options.gate else 1


if __name__ == "__main__":
    sys.exit(main())
