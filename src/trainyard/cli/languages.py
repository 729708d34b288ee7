"""Which languages code in the sandbox may be written in on this machine."""

import asyncio
from collections.abc import Iterator

from trainyard.cli.machine import Fact, Verdict
from trainyard.core import errors
from trainyard.core.settings import Settings
from trainyard.sandbox import packages as environment
from trainyard.sandbox.languages import Languages, Reach


def facts(settings: Settings) -> Iterator[Fact]:
    """Look for each language where a box can see it; nothing where the sandbox is off."""
    if not settings.sandbox.enabled:
        return
    if settings.sandbox.backend == "kubernetes":
        yield Fact("sandbox: languages", Verdict.OK, "those of the images of boxes, which a running server asks")
        return
    try:
        packages = environment.find(settings)
    except errors.ConfigError as error:
        yield Fact("sandbox: languages", Verdict.FAILED, error.message, f"correct {error.param}")
        return
    yield from of(asyncio.run(Languages.discover(Reach(packages=packages), settings.sandbox.limits.memory_bytes)))


def of(languages: Languages) -> Iterator[Fact]:
    """Tell of the languages that run in one fact, and of each of the others what it lacks."""
    there = ", ".join(f"{one.code} ({one.version})" for one in languages.available())
    yield Fact("sandbox: languages", Verdict.OK, there)
    for code, lacks in languages.missing.items():
        yield Fact(f"sandbox: {code}", Verdict.OPTIONAL, "does not run here", lacks)
