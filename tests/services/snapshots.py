"""Wire answers held against files: what varies is replaced by its name, everything else is compared exactly.

A change there is a change for clients: look at it, then write the files anew with `TRAINYARD_WRITE_SNAPSHOTS=1`.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "snapshots"

_ID = re.compile(r"(?<![A-Za-z0-9_-])[A-Za-z0-9][A-Za-z0-9_-]{19}[A-Za-z0-9](?![A-Za-z0-9_-])")
_ELSEWHERE = [
    (re.compile("choose one of: .*"), "choose one of: <languages>"),  # those of this machine
    (re.compile(r"retry in [\d.]+ s"), "retry in <seconds>"),
    (re.compile(r"key_[a-z0-9]{26}"), "<key id>"),
]

_VARYING = {"wall_s", "cpu_s", "peak_memory_bytes", "request_id", "timestamp", "lastModified", "createdAt"}
_VARYING |= {"created_at", "expires_at", "hash", "state_hash", "state_size", "size_bytes", "languages"}
_VARYING |= {"retry_after_seconds"}


class Mask:
    """Replaces what varies in the exchanges of one snapshot.

    Args:
        secrets: Texts, such as keys, by what stands in their place.
    """

    def __init__(self, secrets: dict[str, str]) -> None:
        self._secrets = secrets
        self._names: dict[str, str] = {}

    def plain(self, value: Any, key: str = "") -> Any:
        """Replace what varies in one value; the same id has the same name everywhere."""
        if key in _VARYING and value not in (None, 0):
            return f"<{key}>"
        if isinstance(value, dict):
            return {name: self.plain(one, name) for name, one in value.items()}
        if isinstance(value, list):
            return [self.plain(one) for one in value]
        return self._text(value) if isinstance(value, str) else value

    def _text(self, text: str) -> str:
        for secret, name in self._secrets.items():
            text = text.replace(secret, name)
        text = _ID.sub(lambda found: self._names.setdefault(found[0], f"<id {len(self._names) + 1}>"), text)
        for pattern, name in _ELSEWHERE:
            text = pattern.sub(name, text)
        return text


def hold(path: str, exchanges: object) -> None:
    """Compare with a file of the folder, or write it."""
    file, written = FOLDER / path, json.dumps(exchanges, indent=1, ensure_ascii=False) + "\n"
    if os.environ.get("TRAINYARD_WRITE_SNAPSHOTS"):
        file.write_text(written)
    assert written == file.read_text()
