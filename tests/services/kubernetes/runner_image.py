"""What deploy/Dockerfile.runner puts into its images, as far as a process can tell, out of this checkout."""

import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from tests.services.kubernetes.containers import Image

_SOURCE = Path(__file__).resolve().parents[3] / "src"
_INSIDE = "/opt/trainyard/trainyard/sandbox/inside"
_LIBRARIES = "/opt/libraries"


def runner(preload: str = "") -> Image:
    """An image with this interpreter, its packages, and the runner of this checkout."""
    here = sysconfig.get_paths()["purelib"]
    python = str(Path(sys.executable).resolve())
    env: Mapping[str, str] = {"TRAINYARD_BOX_LIBRARIES": _LIBRARIES, "TRAINYARD_BOX_PRELOAD": preload}
    binds = {_LIBRARIES: here, _INSIDE: str(_SOURCE / "trainyard/sandbox/inside")}
    packages = {
        f"/opt/trainyard/{name}/__init__.py": f"{_SOURCE}/{name}/__init__.py"
        for name in ("trainyard", "trainyard/sandbox")
    }
    return Image((python, "-I", "-S", f"{_INSIDE}/pod"), {**packages, **binds}, env)
