"""A process that has boxes, to be killed: `python -m … HOME [SOCKETS]`.

With sockets it uses the zygotes that listen there; without, it starts its own, as a server does. Prints the pids of
everything that it has, as one line of JSON, and waits.
"""

import asyncio
import json
import sys
from pathlib import Path

from tests.contract.sandbox.backends.local.grounds import grounds
from tests.contract.sandbox.backends.local.host import FORKING, until_forked
from trainyard.core.settings import SandboxSettings
from trainyard.sandbox.backends.local import LocalBackend
from trainyard.sandbox.types.orders import Order


async def _use(sockets: Path) -> None:
    backend = LocalBackend(SandboxSettings(warm=1), sockets, has_packages=False)
    await backend.start()
    await _work(backend, [])


async def _serve(home: Path) -> None:
    async with grounds(home) as made:
        zygotes = [status.pid for status in made.supervisor.status() if status.pid is not None]
        await _work(made.backend, zygotes)


async def _work(backend: LocalBackend, zygotes: list[int]) -> None:
    box = await backend.take("lean", "tenant")
    running = asyncio.ensure_future(box.run(Order(code=FORKING, timeout_s=100.0)))
    await until_forked(box)
    boxes = [each.pid for each in backend.running()]
    print(json.dumps({"zygotes": zygotes, "boxes": boxes}), flush=True)  # noqa: T201 - read by the test
    await running


if __name__ == "__main__":
    asyncio.run(_use(Path(sys.argv[2])) if len(sys.argv) > 2 else _serve(Path(sys.argv[1])))
