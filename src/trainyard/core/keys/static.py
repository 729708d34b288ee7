"""Keys that stand in the settings: of any form, and changed nowhere else."""

import hmac
import re
from collections.abc import Iterator, Sequence
from typing import Final, Self

from trainyard.core import errors
from trainyard.core.keys import format
from trainyard.core.keys.types import STATIC_ID, KeyRecord
from trainyard.core.principal import SCOPES

SETTING: Final = "static_keys"
VARIABLE: Final = "TRAINYARD_STATIC_KEYS"

_SEPARATORS: Final = re.compile(r"[,\s]+")
_KEY: Final = re.compile(r"[!-~]{8,256}")
"""What a header carries as it is; `,` and `;` have another meaning before it comes here."""

_ID_DIGITS: Final = 24
_SHOWN_CHARACTERS: Final = 3
"""At most, and one of eight: nobody says that these keys are random."""
_SYNTAX: Final = (
    "write KEY, or KEY;scopes=generate+execute;tenant=lab;user=ada, several with commas or white space between them"
)
_DEFAULT_SCOPES: Final = tuple(scope for scope in SCOPES if scope != "admin")
_DEFAULT_USER: Final = "static"


class StaticKeys:
    """Recognises the keys of the settings.

    Attributes:
        records: In the order of the settings.
    """

    def __init__(self, records: Sequence[KeyRecord], pepper: bytes) -> None:
        self.records = tuple(records)
        self._pepper = pepper

    @classmethod
    def read(cls, text: str | None, pepper: bytes, now: float) -> Self:
        """Read them as the settings have them.

        Args:
            text: Entries of a key, then `;scopes=…`, `;tenant=…` and `;user=…` as wanted.
            pepper: Under which they are kept in memory.
            now: Unix time from which they count as made.

        Raises:
            errors.ConfigError: An entry cannot be understood; the message tells which, and not what stands there.
        """
        entries = [entry for entry in _SEPARATORS.split(text or "") if entry]
        records = [_record(entry, place, pepper, now) for place, entry in enumerate(entries, start=1)]
        ids = [record.id for record in records]
        for place, key_id in enumerate(ids, start=1):
            if ids.index(key_id) != place - 1:
                raise _fault(place, "repeats the key of an earlier one")
        return cls(records, pepper)

    def show(self, key_id: str) -> KeyRecord | None:
        """Find a record by its id."""
        return next((record for record in self.records if record.id == key_id), None)

    def find(self, key: str) -> KeyRecord | None:
        """Find the record of a key; all are compared, each in constant time."""
        if not self.records:
            return None
        found, digest = None, format.digest(_spelled(key), self._pepper)
        for record in self.records:
            if hmac.compare_digest(record.digest, digest):
                found = record
        return found


def _record(entry: str, place: int, pepper: bytes, now: float) -> KeyRecord:
    key, *told = entry.split(";")
    if not _KEY.fullmatch(key):
        raise _fault(place, "has a key that is not 8 to 256 visible characters of ASCII")
    facts = dict(_facts(told, place))
    try:
        scopes = format.read_scopes(facts.get("scopes", "+".join(_DEFAULT_SCOPES)).split("+"))
        tenant = format.read_name(facts.get("tenant", "default"), "tenant")
        user = format.read_name(facts.get("user", _DEFAULT_USER), "user")
    except errors.InvalidRequest as error:
        raise _fault(place, f"is not usable: {error.message}") from error
    digest = format.digest(_spelled(key), pepper)
    return KeyRecord(
        id=STATIC_ID + digest[:_ID_DIGITS],
        tenant=tenant,
        user=user,
        description=f"of {VARIABLE}",
        prefix=f"{key[: min(_SHOWN_CHARACTERS, len(key) // 8)]}…",
        digest=digest,
        scopes=scopes,
        created_at=now,
    )


def _facts(told: Sequence[str], place: int) -> Iterator[tuple[str, str]]:
    for fact in told:
        name, is_told, value = fact.partition("=")
        if name not in ("scopes", "tenant", "user") or not is_told:
            raise _fault(place, "tells something other than scopes=, tenant= or user= after its key")
        yield name, value


def _spelled(key: str) -> str:
    """Bring the two spellings of a key of our own form together; others are as they are."""
    return format.canonical(key) or key


def _fault(place: int, what: str) -> errors.ConfigError:
    return errors.ConfigError(f"{SETTING} (from {VARIABLE}): entry {place} {what}; {_SYNTAX}", param=SETTING)
