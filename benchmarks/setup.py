"""Makes the environments of the rivals under `.bench/`, each of its own; what is there already stays.

transformers and peft come with the dev group and are only looked for.
"""

import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path

RIVALS = ("transformers", "peft")

ENVIRONMENTS: Mapping[str, Sequence[str]] = {
    "ct2": ("ctranslate2==4.8.5", "torch==2.13.0", "transformers==5.23.0"),
    "litellm": ("litellm[proxy]==1.106.2",),
    "jupyter": ("jupyter_kernel_gateway==3.0.1", "ipykernel==7.4.0"),
    "sandbox": (
        "numpy>=2",
        "pandas==3.1.1",
        "matplotlib>=3.10",
        "cloudpickle>=3.1",
        "lz4>=4.4",
        "redis>=6",
    ),
}
"""Requirements by environment; versions are fixed so that numbers of different days compare."""

_BENCH = Path(__file__).parent.parent / ".bench"


def environment(name: str) -> Path:
    """Where the environment of a rival lies."""
    return _BENCH / name


def make(name: str) -> None:
    """Make one environment unless it is there."""
    directory = environment(name)
    finished = directory / "pyvenv.cfg"
    if finished.exists() and _has_all(directory, ENVIRONMENTS[name]):
        return
    venv.create(directory, with_pip=True)
    pip = [str(directory / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *ENVIRONMENTS[name]], check=True)


def _has_all(directory: Path, requirements: Sequence[str]) -> bool:
    code = "import importlib.metadata as m, sys; [m.distribution(name) for name in sys.argv[1:]]"
    names = [re.split(r"[\[=>]", requirement)[0] for requirement in requirements]
    asked = subprocess.run([str(directory / "bin" / "python"), "-c", code, *names], capture_output=True, check=False)
    return asked.returncode == 0


def main() -> int:
    """Make what is missing and say what is there; 1 when a rival of the dev group is missing."""
    missing = [name for name in RIVALS if importlib.util.find_spec(name) is None]
    for name in RIVALS:
        state = "missing" if name in missing else importlib.metadata.version(name)
        print(f"{name}: {state} (in the development environment, not under .bench/)")
    for name, requirements in ENVIRONMENTS.items():
        make(name)
        print(f"{' '.join(requirements)} (in .bench/{name})")
    if missing:
        print(f"install the dev group first: make setup ({', '.join(missing)} missing)")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
