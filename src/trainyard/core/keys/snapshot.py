"""The keys in memory, so that a request costs no query."""

import hmac
from collections.abc import Iterable, Mapping

from trainyard.core.keys import format
from trainyard.core.keys.types import KeyRecord

_NOBODY = "0" * 64


class Snapshot:
    """The live keys at one version of the epoch; never changed, only replaced."""

    def __init__(self, version: int, records: Iterable[KeyRecord]) -> None:
        self.version = version
        by_prefix: dict[str, list[KeyRecord]] = {}
        for record in records:
            by_prefix.setdefault(record.prefix, []).append(record)
        self._by_prefix: Mapping[str, list[KeyRecord]] = by_prefix

    def find(self, key: str, pepper: bytes) -> KeyRecord | None:
        """Find the record of a canonical key.

        The prefix, which is shown in lists anyway, selects; the rest is compared in constant time, once too when
        nothing has that prefix.
        """
        found = None
        digest = format.digest(key, pepper)
        candidates = self._by_prefix.get(key[: format.PREFIX_CHARACTERS], ())
        for record in candidates:
            if hmac.compare_digest(record.digest, digest):
                found = record
        if not candidates:
            hmac.compare_digest(_NOBODY, digest)
        return found
