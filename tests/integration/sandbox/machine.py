"""A server whose code runs on this machine, isolated one way or the other."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services.packages import require_packages
from tests.services.require import missing
from trainyard.sdk.local_server import LocalServer


@contextmanager
def serving(backend: str, home: Path) -> Iterator[LocalServer]:
    """Run `trainyard up` with the packages of the sandbox; refused where a layer of isolation is missing."""
    if backend == "bubblewrap" and shutil.which("bwrap") is None:
        missing("bubblewrap (bwrap)", "apt-get install bubblewrap")
    catalog = home / "models.yaml"
    catalog.write_text("models: [{name: echo, backend: fake}]")
    environment = {
        "TRAINYARD_MODELS_FILE": str(catalog),
        "TRAINYARD_SANDBOX__BACKEND": backend,
        "TRAINYARD_SANDBOX__ENABLED": "true",
        "TRAINYARD_SANDBOX__PACKAGES": str(require_packages()),
        "TRAINYARD_SANDBOX__WARM": "2",
        "TRAINYARD_SANDBOX__WARM_SCIENCE": "1",
    }
    with LocalServer(home / "data", environment=environment) as server:
        yield server
