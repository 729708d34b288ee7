"""Where the sockets of engines lie: one name per model, made the same way by who listens and who connects."""

import hashlib
import re
from pathlib import Path
from typing import Final

_READABLE_CHARS: Final = 24


def socket_path(directory: Path, model: str) -> Path:
    """Name the socket of a model's engine: the readable end of its name and a hash that tells equal ends apart."""
    readable = re.sub(r"[^A-Za-z0-9.-]+", "-", model)[-_READABLE_CHARS:].strip("-.")
    digest = hashlib.blake2b(model.encode(), digest_size=4).hexdigest()
    return directory / f"{readable}-{digest}.sock"


def child_name(model: str) -> str:
    """Name the engine of a model among the children of the supervisor."""
    return f"engine:{model}"
