"""Links that carry their own permission, for an hour."""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from trainyard.core import errors
from trainyard.core.clock import Clock

LINK_TTL_S: Final = 3600
"""One hour, as Signal's guide has it."""


@dataclass(frozen=True, slots=True)
class Link:
    """A signed link.

    Attributes:
        path: Path and query, below the server's base URL.
        expires_at: When it ends, UTC.
    """

    path: str
    expires_at: datetime


class Signer:
    """Signs and checks download links.

    Args:
        key: Secret bytes; a key of this use alone is derived from them.
        clock: Time.
    """

    def __init__(self, key: bytes, clock: Clock) -> None:
        self._key = hmac.digest(key, b"trainyard artifact download", "sha256")
        self._clock = clock

    def link(self, run_id: str, artifact_id: str) -> Link:
        """Sign a link to an artifact."""
        expires = int(self._clock.now()) + LINK_TTL_S
        signature = self._signature(run_id, artifact_id, expires)
        path = f"/runs/{run_id}/artifacts/{artifact_id}/download?expires={expires}&signature={signature}"
        return Link(path, datetime.fromtimestamp(expires, UTC))

    def check(self, run_id: str, artifact_id: str, expires: int, signature: str) -> None:
        """Make sure that a link is ours and not over.

        Raises:
            errors.Forbidden: It is not (`signature_invalid`), or it is over (`link_expired`).
        """
        expected = self._signature(run_id, artifact_id, expires)
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            raise errors.Forbidden(
                "The signature does not belong to this link; GET /runs/{id}/artifacts gives a valid one",
                code="signature_invalid",
            )
        if self._clock.now() >= expires:
            raise errors.Forbidden("This link is over; GET /runs/{id}/artifacts gives a new one", code="link_expired")

    def _signature(self, run_id: str, artifact_id: str, expires: int) -> str:
        message = f"{run_id}/{artifact_id}/{expires}"
        return hmac.new(self._key, message.encode(), hashlib.sha256).hexdigest()
