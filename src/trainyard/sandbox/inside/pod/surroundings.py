"""What the pod has told its process: environment variables, taken out of the environment when they are read.

    TRAINYARD_BOX_TOKEN      from an annotation of the pod, by the downward API
    TRAINYARD_BOX_HOST       address of the pod, likewise
    TRAINYARD_BOX_PORT       where to listen
    TRAINYARD_BOX_SOCKETS    which code may open: `unix`, or `all` that the filter on system calls knows
    TRAINYARD_BOX_LIMITS     JSON of `lockdown.limits.Limits`
    TRAINYARD_BOX_LIBRARIES  set by the image: directories with packages, with colons
    TRAINYARD_BOX_PRELOAD    set by the image: modules to import before the server is waited for, with commas

An image that sets no `PATH` gets that of Debian.
"""

import json
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Final

from trainyard.sandbox.inside.lockdown.limits import Limits

_PREFIX: Final = "TRAINYARD_BOX_"


@dataclass(frozen=True)
class Surroundings:
    """One pod, as its process sees it.

    Attributes:
        path: `PATH` of the image, which programs get too.
    """

    token: bytes
    host: str
    port: int
    preload: tuple[str, ...]
    has_sockets: bool
    limits: Limits
    libraries: tuple[str, ...]
    path: str


def take(environ: MutableMapping[str, str]) -> Surroundings:
    """Read them, and leave none behind for what runs later; raises KeyError or ValueError when they are wrong."""
    given = {name: environ.pop(name) for name in list(environ) if name.startswith(_PREFIX)}
    token = given[_PREFIX + "TOKEN"].encode()
    if len(token) < 32:
        raise ValueError(f"{_PREFIX}TOKEN has {len(token)} characters; 32 or more are a secret")
    return Surroundings(
        token,
        given[_PREFIX + "HOST"],
        int(given[_PREFIX + "PORT"]),
        tuple(filter(None, given.get(_PREFIX + "PRELOAD", "").split(","))),
        {"unix": False, "all": True}[given[_PREFIX + "SOCKETS"]],
        Limits(**json.loads(given[_PREFIX + "LIMITS"])),
        tuple(filter(None, given.get(_PREFIX + "LIBRARIES", "").split(":"))),
        environ.get("PATH", "/usr/local/bin:/usr/bin:/bin"),
    )
