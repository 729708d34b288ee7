"""What a zygote is told when it starts, and nothing else: one JSON object on standard input."""

import json
from dataclasses import asdict, dataclass
from typing import Literal

from trainyard.sandbox.inside.lockdown.limits import Limits

Flavor = Literal["lean", "science"]


@dataclass(frozen=True)
class Assignment:
    """The job of one zygote.

    Attributes:
        flavor: What it loads before it forks.
        socket: Path of the unix socket to listen on; empty = tell the layers on standard output and end.
        library: Directory with what the runner imports beside itself (cloudpickle).
        packages: Virtual environment whose packages the code may import.
        etc: Files and directories below /etc that boxes see; patterns.
        first_uid: First of `uids` user ids on the host, for boxes of a zygote that is root.
        max_boxes: More are refused.
        allow_weaker: Go on without a required layer, where boxes can be made without it.
    """

    flavor: Flavor
    socket: str
    library: str
    packages: str | None
    etc: tuple[str, ...]
    first_uid: int
    uids: int
    max_boxes: int
    allow_weaker: bool
    limits: Limits

    def encode(self) -> bytes:
        """Write the message."""
        return json.dumps(asdict(self)).encode()


def decode(message: bytes) -> Assignment:
    """Read the message; raises ValueError, KeyError or TypeError when it is none."""
    fields = json.loads(message)
    limits, etc = Limits(**fields.pop("limits")), tuple(fields.pop("etc"))
    return Assignment(**fields, limits=limits, etc=etc)
