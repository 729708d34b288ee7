"""How well code of others is isolated on this machine, one fact per layer."""

import json
import subprocess
from collections.abc import Iterator
from typing import Final

from trainyard.cli.machine import Fact, Verdict
from trainyard.core import errors
from trainyard.core.settings import Settings
from trainyard.sandbox import packages as environment
from trainyard.sandbox.backends.base import Layer
from trainyard.sandbox.backends.local import places
from trainyard.sandbox.languages import ETC

_TRIAL_S: Final = 60.0


def facts(settings: Settings) -> Iterator[Fact]:
    """Have a zygote try every layer, as it does when a server starts; nothing where the sandbox is off."""
    if not settings.sandbox.enabled or settings.sandbox.backend not in places.KINDS:
        return
    try:
        layers = _layers(settings)
    except errors.ConfigError as error:
        yield Fact("sandbox", Verdict.FAILED, error.message, f"correct {error.param}")
        return
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        yield Fact("sandbox", Verdict.FAILED, f"cannot be tried: {error}", "sandbox.enabled: false leaves it out")
        return
    for layer in layers:
        yield fact(layer, settings.sandbox.allow_weaker)


def fact(layer: Layer, allow_weaker: bool) -> Fact:
    """Say what a layer means for the server."""
    name = f"sandbox: {layer.name}"
    if layer.is_held:
        return Fact(name, Verdict.OK, layer.detail)
    if not layer.is_required or allow_weaker:
        return Fact(name, Verdict.OPTIONAL, "not held", layer.detail)
    advice = f"{layer.detail}; sandbox.allow_weaker goes without, sandbox.enabled: false leaves the sandbox out"
    return Fact(name, Verdict.FAILED, "not held", advice)


def _layers(settings: Settings) -> list[Layer]:
    found = environment.find(settings)
    order = places.assignment(settings, "lean", found, None, ETC)
    ended = subprocess.run(
        places.command(found, settings.sandbox.backend),
        input=order.encode(),
        env={},
        capture_output=True,
        timeout=_TRIAL_S,
        check=True,
    )
    return [Layer(**layer) for layer in json.loads(ended.stdout)]
