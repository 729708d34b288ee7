"""Runs the tests under branch coverage, subprocesses included, and holds the bars when asked to.

Bars: 90 % over all; 100 % of the lines of the key store, both registries, the Signal routes and the SDK; one for each
component of the code interpreter. The report lies in htmlcov/index.html and coverage.xml.
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

COMPONENTS = {
    "api": ("*/trainyard/sandbox/routes/*,*/trainyard/sandbox/types/*", 90),
    "services": ("*/trainyard/sandbox/service/*,*/trainyard/sandbox/store/*", 85),
    "middleware": ("*/trainyard/core/http/*", 80),
}
"""Files and bar in percent of what the code interpreter's guide calls a component."""

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
    """Print the report and check all bars."""
    over_all = coverage("report") == 0
    components = [component(name, *bar) for name, bar in COMPONENTS.items()]
    report = ROOT / ".coverage.full.json"
    coverage("json", "-q", "-o", str(report), "--include", ",".join(FULL_LINES), "--fail-under", "0")
    gaps = uncovered_lines(report)
    report.unlink()
    print("\n".join(gaps) if gaps else "keys, registries, routes and SDK: every line is visited")
    return over_all and all(components) and not gaps


def component(name: str, files: str, bar: int) -> bool:
    """Print how much of a component is covered; whether that is enough."""
    measured = [sys.executable, "-m", "coverage", "report", "--format=total", "--include", files, "--fail-under"]
    ended = subprocess.run([*measured, str(bar)], cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True)
    print(f"{name}: {ended.stdout.strip()} %, the bar is {bar} %")
    return ended.returncode == 0


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
    coverage("html", "-q", "--fail-under", "0")
    coverage("xml", "-q", "--fail-under", "0")
    bars = held()
    if tests:
        return tests
    return 0 if bars or not options.gate else 1


if __name__ == "__main__":
    sys.exit(main())
