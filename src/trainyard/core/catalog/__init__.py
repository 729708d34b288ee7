"""The models that this server offers, from one `models.yaml` or from the package."""

from trainyard.core.catalog.entry import Backend, Capability, ModelEntry, ModelName
from trainyard.core.catalog.registry import Change, ModelRegistry

__all__ = ["Backend", "Capability", "Change", "ModelEntry", "ModelName", "ModelRegistry"]
