"""The use cases of training; no HTTP words, no SQL."""

from trainyard.core.blobs import BlobStore
from trainyard.core.catalog import ModelRegistry
from trainyard.core.clock import Clock
from trainyard.core.settings import Settings
from trainyard.engine.base import Engines
from trainyard.engine.tokenizer import Tokenizers
from trainyard.training.service.adapters import RunAdapters
from trainyard.training.service.downloads import Downloads
from trainyard.training.service.embedding import Embedding
from trainyard.training.service.parts import Parts
from trainyard.training.service.primitives import Primitives
from trainyard.training.service.runs import Runs
from trainyard.training.service.sampling import Sampling
from trainyard.training.service.saving import Saving
from trainyard.training.service.sessions import Sessions
from trainyard.training.service.signing import Signer
from trainyard.training.service.text import Text
from trainyard.training.store import RunRegistry

__all__ = ["RunAdapters", "TrainingService"]


class TrainingService:
    """Everything that can be done with runs, by use case.

    Args:
        registry: Where runs are recorded.
        models: The catalog.
        engines: What computes.
        tokenizers: Of the catalog's models.
        blobs: Where the files of checkpoints are kept.
        settings: `data_dir` and `training` are read.
        clock: Time.
        signing_key: Secret bytes under which download links are signed; the same after a restart.

    Attributes:
        runs: Create, list, status, metrics, complete.
        primitives: `forward_backward` and `optim_step`.
        sampling: `sample` and `sample/stream`.
        embedding: `embeddings`.
        saving: `save_state` and the list of artifacts.
        downloads: Archives of artifacts behind signed links.
        text: Tokens, templates and the model of a run.
        adapters: The `AdapterCatalog` for serving.
    """

    def __init__(
        self,
        registry: RunRegistry,
        models: ModelRegistry,
        engines: Engines,
        tokenizers: Tokenizers,
        blobs: BlobStore,
        settings: Settings,
        clock: Clock,
        *,
        signing_key: bytes,
    ) -> None:
        parts = Parts(registry, models, engines, tokenizers, blobs, settings, clock)
        sessions = Sessions(parts)
        signer = Signer(signing_key, clock)
        self.runs = Runs(parts, sessions)
        self.primitives = Primitives(parts, sessions)
        self.sampling = Sampling(parts, sessions)
        self.embedding = Embedding(parts, sessions)
        self.saving = Saving(parts, sessions, signer)
        self.downloads = Downloads(parts, sessions, signer)
        self.text = Text(parts, sessions)
        self.adapters = RunAdapters(parts, sessions)

    async def recover(self) -> list[str]:
        """Settle what a crash left half-done; call once, before the first request.

        Returns:
            Ids of runs whose creation was never answered; they are failed now.
        """
        await self.saving.recover()
        return await self.runs.recover()
