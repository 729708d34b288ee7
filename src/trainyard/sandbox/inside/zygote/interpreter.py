"""The Python that boxes run: where it lies, what it may import, and what is loaded before boxes are forked from it."""

import gc
import importlib
import os
import site
import sys
from collections.abc import Sequence
from typing import Final

from trainyard.sandbox.inside import runner, scene
from trainyard.sandbox.inside.zygote.assignment import Assignment, Flavor

VERSION: Final = f"{sys.version_info[0]}.{sys.version_info[1]}"
SITE_PACKAGES: Final = f"{scene.PREFIX}/lib/python{VERSION}/site-packages"
BIN: Final = f"{scene.PREFIX}/bin"
ENVIRON: Final = {**runner.ENVIRON, "PATH": f"{BIN}:{runner.ENVIRON['PATH']}"}
"""What runs find in their environment."""

_MODULES: Final[dict[Flavor, tuple[str, ...]]] = {
    "lean": (),
    "science": ("numpy", "pandas", "matplotlib", "matplotlib.pyplot"),
}
_ONE_THREAD: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def plan(assignment: Assignment) -> scene.Plan:
    """Say what the private root is made of."""
    packages = None if assignment.packages is None else os.path.realpath(assignment.packages)
    site_packages = None if packages is None else f"{packages}/lib/python{VERSION}/site-packages"
    return scene.Plan(
        interpreter=os.path.realpath(sys.executable),
        version=VERSION,
        prefixes=sorted({os.path.realpath(prefix) for prefix in (sys.base_prefix, sys.base_exec_prefix)}),
        packages=packages,
        site_packages=site_packages,
        library=os.path.realpath(assignment.library),
        etc=assignment.etc,
    )


def load(flavor: Flavor, site_packages: str | None) -> str | None:
    """Import, inside the private root, what boxes find imported; gives what the packages lack."""
    for add_builtins in (site.setquit, site.setcopyright, site.sethelper):  # what -S leaves out
        add_builtins()
    if site_packages is not None:
        sys.path.append(SITE_PACKAGES)
    sys.path.append(scene.LIBRARY)
    _import(["cloudpickle"])
    sys.path.remove(scene.LIBRARY)
    for name in _ONE_THREAD:
        os.environ[name] = "1"
    os.environ["MPLBACKEND"] = "Agg"
    for name in ("MPLCONFIGDIR", "XDG_CACHE_HOME"):
        os.environ[name] = "/tmp"  # noqa: S108 - of the zygote, then of the box
    try:
        _import(_MODULES[flavor])
    except (ImportError, OSError) as error:
        return f"sandbox.packages cannot be loaded: {error}"
    finally:
        os.environ.clear()
    return None


def _import(names: Sequence[str]) -> None:
    for name in names:
        importlib.import_module(name)


def freeze() -> None:
    """Keep the collector from touching, and so copying, the pages that boxes share."""
    gc.collect()
    gc.freeze()
    gc.disable()


def enter_runner(control: int, spool: int) -> None:
    """Be the runner of this box.

    Args:
        control: Connected to the server.
        spool: Descriptor of the runner's own directory.
    """
    spool_directory = f"/proc/self/fd/{spool}"
    runner.main(
        control,
        scene.WORKSPACE,
        spool_directory,
        mounts=(*scene.WRITABLE, spool_directory),
        libraries=(SITE_PACKAGES,),
        environ=ENVIRON,
    )
