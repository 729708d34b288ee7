"""Artifacts on their way out of the server."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from trainyard.core import errors
from trainyard.core.principal import Principal
from trainyard.training.service import archive
from trainyard.training.service.parts import Parts
from trainyard.training.service.sessions import Sessions
from trainyard.training.service.signing import Signer
from trainyard.training.store import ArtifactRecord


@dataclass(frozen=True, slots=True)
class Download:
    """A tar file about to be sent.

    Attributes:
        file_name: For the client's disk.
        size_bytes: Of the whole archive.
        chunks: Its content.
    """

    file_name: str
    size_bytes: int
    chunks: AsyncIterator[bytes]


class Downloads:
    """Hands artifacts to whoever holds a signed link or owns the run."""

    def __init__(self, parts: Parts, sessions: Sessions, signer: Signer) -> None:
        self._parts = parts
        self._sessions = sessions
        self._signer = signer

    async def by_link(self, run_id: str, artifact_id: str, expires: int, signature: str) -> Download:
        """Open an artifact by its signed link, without a key.

        Raises:
            errors.Forbidden: The link is not ours or is over.
            errors.NotFound: The artifact is gone.
        """
        self._signer.check(run_id, artifact_id, expires, signature)
        return await self._open(run_id, artifact_id)

    async def by_owner(self, principal: Principal, run_id: str, artifact_id: str) -> Download:
        """Open an artifact of the principal's run."""
        await self._sessions.find(principal, run_id, is_read=True)
        return await self._open(run_id, artifact_id)

    async def _open(self, run_id: str, artifact_id: str) -> Download:
        record = await self._find(run_id, artifact_id)
        for facts in record.manifest.values():
            if not await self._parts.blobs.exists(facts.sha256):
                raise errors.NotFound(f"The files of {artifact_id} are no longer stored", code="artifact_gone")
        await self._parts.stored(self._parts.registry.count_download, artifact_id)
        folder = f"{run_id}-{record.name}"
        named = {f"{folder}/{name}": facts for name, facts in record.manifest.items()}
        return Download(
            f"{folder}.tar", archive.size_bytes(named), archive.stream(self._parts.blobs, named, record.created_at)
        )

    async def _find(self, run_id: str, artifact_id: str) -> ArtifactRecord:
        records = await self._parts.stored(self._parts.registry.list_artifacts, run_id)
        for record in records:
            if record.id == artifact_id:
                return record
        raise errors.NotFound(
            f"{run_id} has no artifact {artifact_id[:80]!r}; GET /runs/{run_id}/artifacts lists them",
            code="artifact_not_found",
        )
