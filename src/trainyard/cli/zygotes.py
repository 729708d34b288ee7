"""The zygotes of a server: children that boxes of the sandbox are forked from."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from trainyard.core.processes import ChildSpec, probes
from trainyard.core.settings import Settings
from trainyard.sandbox import packages as environment
from trainyard.sandbox.backends.local import places
from trainyard.sandbox.languages import ETC

_GRACE_S: Final = 10.0
_START_S: Final = 120.0
"""numpy, pandas and matplotlib are loaded from a cold disk in less."""


def specs(settings: Settings, sockets: Path, log: Callable[[str], Path]) -> list[ChildSpec]:
    """Say how the zygotes are started: with no environment, and told nothing but their own part of the settings.

    Args:
        settings: None is started when the sandbox is off, or isolated by something else.
        sockets: Private directory.
        log: Names the log file of a child.

    Raises:
        errors.ConfigError: `sandbox.packages` is no environment, or the data directory lies where boxes could read it.
    """
    if not settings.sandbox.enabled or settings.sandbox.backend not in places.KINDS:
        return []
    found = environment.find(settings)
    flavors = places.FLAVORS if found is not None else places.FLAVORS[:1]
    made = []
    for flavor in flavors:
        socket = places.socket_of(sockets, flavor)
        name = f"zygote:{flavor}"
        made.append(
            ChildSpec(
                name=name,
                argv=places.command(found, settings.sandbox.backend),
                env={},
                stdin=places.assignment(settings, flavor, found, socket, ETC).encode(),
                ready=probes.unix_socket(socket),
                log=log(name),
                grace_s=_GRACE_S,
                start_timeout_s=_START_S,
            )
        )
    return made
