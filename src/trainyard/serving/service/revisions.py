"""Telling versions of weights apart, so that an old answer is never taken for one of new weights."""

from pathlib import Path

from trainyard.core.catalog import ModelEntry
from trainyard.core.ports.adapters import AdapterModel
from trainyard.engine.base import Engines
from trainyard.serving.types import Target


class Revisions:
    """Names the revision of trained runs; entries of the catalog know their own."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines

    async def of_run(self, base: ModelEntry, adapter: AdapterModel) -> str:
        """Name the weights of a run.

        A live run that is rolled back by a crash counts its steps again with other weights; so the start of its engine
        belongs to the name. A checkpoint that is saved anew is another directory, or another time.

        Raises:
            errors.Unavailable: The engine of a live run is away.
        """
        if adapter.checkpoint_dir is not None:
            return f"{base.revision}/{adapter.name}/{_stamp(Path(adapter.checkpoint_dir))}"
        started_at = (await (await self._engines.get(adapter.base_model)).stats()).started_at
        return f"{base.revision}/{started_at}/{_version(adapter)}"


def answered(target: Target, version: str) -> str:
    """Name the revision that really answered: a live run may have taken a step since it was looked up."""
    adapter = target.adapter
    if adapter is None or adapter.checkpoint_dir is not None:
        return target.revision
    return f"{target.revision.removesuffix(_version(adapter))}{version}"


def _version(adapter: AdapterModel) -> str:
    return f"{adapter.run_id}@{adapter.step}"


def _stamp(directory: Path) -> str:
    try:
        return str(directory.stat().st_mtime_ns)
    except OSError:
        return "gone"  # the engine will say so
