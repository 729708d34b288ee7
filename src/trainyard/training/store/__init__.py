"""Persistence of runs, their metrics and their artifacts; `tables` has the schema."""

from trainyard.training.store.records import ArtifactRecord, RunRecord
from trainyard.training.store.registry import MAX_LIVE_RUNS, RunRegistry

__all__ = ["MAX_LIVE_RUNS", "ArtifactRecord", "RunRecord", "RunRegistry"]
