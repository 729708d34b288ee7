"""A server whose data directory lies on a small disk; run in a mount namespace of its own, it prints what it saw."""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.chaos.failures import callers, yard
from tests.chaos.failures.callers import Caller, Told
from trainyard import Client
from trainyard.sdk import ServerError
from trainyard.sdk.local_server import LocalServer

CATALOG = "models:\n  - {name: echo, backend: fake}\n  - {name: test/pocket, path: %s, load: eager}\n"


def fill(disk: Path) -> Path:
    """Take all room that there is, to the last byte."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
    return filler


def refusal(act: Callable[[], object]) -> str:
    """Tell status and code of what has to be refused."""
    try:
        act()
    except ServerError as error:
        return f"{error.status_code} {error.code}"
    return "it went through"


def names(disk: Path, pattern: str) -> list[str]:
    return [path.name for path in disk.rglob(pattern)]


async def until_refused(who: Caller, told: list[Told]) -> None:
    while told[-1].status == httpx.codes.OK and not told[-1].code:
        assert len(told) < 3000
        told.append(await who.ask(f"before {len(told)} {'word ' * 40}", stream=len(told) % 2 == 0))


async def scenario(disk: Path, pocket: Path) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    (disk.parent / "models.yaml").write_text(CATALOG % pocket)
    environment = {"TRAINYARD_MODELS_FILE": str(disk.parent / "models.yaml")}
    with LocalServer(disk / "data", environment=environment) as server, Client(server.key, server.url) as client:
        run = client.create_run(base_model="test/pocket", lora_r=4, seed=3)
        run.forward_backward(yard.LESSON)
        run.optim_step()
        async with callers.caller(server.url, server.key) as who:
            told = [await who.ask(stream=stream) for stream in (False, True)]
            filler = await asyncio.to_thread(fill, disk)
            await until_refused(who, told)
            while fill(disk).stat().st_size and (refused := [await who.ask(stream=s) for s in (False, True, False)]):
                told += refused
                if all(one.code for one in refused):
                    break
            seen["whole"] = [refused[0].status, refused[0].code, refused[0].usage]
            seen["stream"] = [refused[1].code, refused[1].usage, refused[1].is_whole]
            seen["healthz"] = (await asyncio.to_thread(httpx.get, f"{server.url}/healthz")).status_code
            seen["save_state"] = refusal(lambda: run.save_state(mode="merged"))
            seen["open_run"] = refusal(lambda: client.create_run(base_model="test/pocket", lora_r=4))
            run.forward_backward(yard.LESSON)
            seen["optim_step"] = refusal(run.optim_step)
            seen["open reservations"] = callers.sample(server.url, "trainyard_open_reservations")
            filler.unlink()
            await asyncio.to_thread(yard.until, lambda: bool(run.get_status().durable_step == 2), 15)
            while (one := await who.ask()).status != httpx.codes.OK:
                told.append(one)
            told.append(one)
            seen["step"] = run.get_status().current_step
            seen["saved"] = run.save_state(mode="merged").step
            seen["left behind"] = names(disk, "*.new")
            await asyncio.to_thread(
                yard.until, lambda: not callers.sample(server.url, "trainyard_ledger_spooled_entries")
            )
        seen["answered"] = sum(one.usage is not None for one in told) >= 3
        callers.assert_exact(told, callers.ledger(f"sqlite:///{disk / 'data' / 'trainyard.db'}"))
    return seen


if __name__ == "__main__":
    print(json.dumps(asyncio.run(scenario(Path(sys.argv[1]), Path(sys.argv[2])))))  # noqa: T201 - read by the test
