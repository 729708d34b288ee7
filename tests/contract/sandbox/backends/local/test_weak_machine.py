"""A machine that lets nobody make user namespaces: what is told, and what is refused."""

import dataclasses
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.contract.sandbox.backends.orders import run
from trainyard.cli import isolation, zygotes
from trainyard.cli.machine import Verdict
from trainyard.core import errors
from trainyard.core.datadir import make_socket_directory
from trainyard.core.processes import Supervisor
from trainyard.core.settings import SandboxSettings, Settings
from trainyard.sandbox.backends.local import LocalBackend

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif(os.getuid() != 0, reason="only root can forbid namespaces to a part of the machine"),
]
WEAKEN = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'
WRAPPER = ("/usr/bin/unshare", "--user", "--map-root-user", "--", "/bin/sh", "-c", WEAKEN, "sh")


@asynccontextmanager
async def weak(home: Path, *, allow_weaker: bool) -> AsyncIterator[LocalBackend]:
    """Give a backend whose zygote can make no user namespace."""
    settings = Settings(data_dir=home / "data", sandbox=SandboxSettings(warm=1, allow_weaker=allow_weaker))
    sockets = make_socket_directory()
    supervisor = Supervisor()
    backend = LocalBackend(settings.sandbox, sockets, has_packages=False, take_s=5.0)
    try:
        for spec in zygotes.specs(settings, sockets, lambda name: home / f"{name.replace(':', '-')}.log"):
            supervisor.add(dataclasses.replace(spec, argv=(*WRAPPER, *spec.argv)))
            await supervisor.ensure(spec.name)
        yield backend
    finally:
        await backend.aclose()
        await supervisor.stop_all()
        shutil.rmtree(sockets, ignore_errors=True)


async def test_a_weak_machine_is_refused_with_what_it_lacks(tmp_path: Path) -> None:
    async with weak(tmp_path, allow_weaker=False) as backend:
        with pytest.raises(errors.StartupError) as raised:
            await backend.start()

    assert raised.value.code == "sandbox_too_weak"
    assert raised.value.param == "sandbox.allow_weaker"
    assert "user namespace: No space left on device: raise sysctl user.max_user_namespaces" in raised.value.message
    assert "own user id: this container does not have the ids of sandbox.first_uid" in raised.value.message
    assert "trainyard doctor" in raised.value.message


async def test_with_leave_boxes_are_made_with_the_layers_that_are_left(tmp_path: Path) -> None:
    async with weak(tmp_path, allow_weaker=True) as backend:
        await backend.start()

        box = await backend.take("lean", "tenant")
        kept = await run(box, "print(open('/proc/self/status').read())")

    inside = dict(line.split(":\t", 1) for line in kept.stdout.decode().splitlines() if ":\t" in line)
    assert {inside[name] for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (inside["NoNewPrivs"], inside["Seccomp"]) == ("1", "2")


async def test_without_leave_the_zygote_makes_none_whoever_asks(tmp_path: Path) -> None:
    async with weak(tmp_path, allow_weaker=False) as backend:
        with pytest.raises(errors.StartupError):
            await backend.start()

        with pytest.raises(errors.Unavailable) as raised:
            await backend.ping()

    assert raised.value.code == "sandbox_refused"
    assert "user namespace" in raised.value.message


async def test_layers_are_told_before_anything_is_started(tmp_path: Path) -> None:
    async with weak(tmp_path, allow_weaker=True) as backend:
        await backend.start()
        held = {layer.name: layer.is_held for layer in backend.layers()}

    assert not held["user namespace"]
    assert held["seccomp"]
    verdicts = {layer.name: isolation.fact(layer, allow_weaker=False).verdict for layer in backend.layers()}
    assert verdicts["user namespace"] is Verdict.FAILED
    assert verdicts["seccomp"] is Verdict.OK
