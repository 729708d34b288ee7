"""A process that runs code in sessions and tells what it has acknowledged, until it is killed.

python -m tests.chaos.sandbox.working DATABASE_URL DIRECTORY
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from trainyard.core.blobs import DirectoryBlobs
from trainyard.core.clock import SystemClock
from trainyard.core.db import Database
from trainyard.core.metering.accounts import Accounts
from trainyard.core.principal import Principal
from trainyard.core.settings import DatabaseSettings, SandboxSettings, Settings
from trainyard.core.telemetry import Metrics
from trainyard.sandbox import opening
from trainyard.sandbox.backends.fake import FakeBackend
from trainyard.sandbox.languages import Reach
from trainyard.sandbox.service import SandboxService
from trainyard.sandbox.types.domain import Execute

ANNA = Principal("acme", "anna", "key_1", frozenset({"execute"}))
SESSIONS = 3


@asynccontextmanager
async def sandbox(url: str, directory: Path) -> AsyncIterator[tuple[SandboxService, FakeBackend]]:
    """Open what one HTTP process has of the sandbox."""
    settings = Settings(
        data_dir=directory,
        database=DatabaseSettings(url=url),
        sandbox=SandboxSettings(warm=0, warm_science=0, checkpoint_s=0.05),
    )
    database, clock, metrics, backend = Database(url), SystemClock(), Metrics(), FakeBackend()
    accounts = Accounts.open(settings, database, lambda _: [], clock, metrics)
    await accounts.start()
    service = opening.service(
        settings,
        database,
        DirectoryBlobs(directory / "blobs"),
        backend,
        accounts.metering,
        clock,
        metrics,
        reach=Reach(directories=()),
    )
    await service.start()
    try:
        yield service, backend
    finally:
        await service.aclose()
        await accounts.aclose()
        database.close()


async def _work(service: SandboxService, backend: FakeBackend) -> None:
    session_id: str | None = None
    number = 0
    while True:
        number += 1
        code = f"n = {number}\nopen('{number}.txt', 'w').write('{session_id} {number}')"
        done = await service.execute(
            ANNA, Execute(code=code, language="py", session_id=session_id), request_id=f"req_{number}"
        )
        session_id = done.session_id
        state = await service.state_info(ANNA, session_id)
        fact = {
            "session": session_id,
            "number": number,
            "file": done.files[0].id,
            "sha256": done.files[0].sha256,
            "is_durable": state.is_durable,
            "pids": [box.pid for box in backend.running()],
        }
        sys.stdout.write(json.dumps(fact) + "\n")
        sys.stdout.flush()


async def main() -> None:
    """Work until the end."""
    async with sandbox(sys.argv[1], Path(sys.argv[2])) as (service, backend):
        await asyncio.gather(*(_work(service, backend) for _ in range(SESSIONS)))


if __name__ == "__main__":
    asyncio.run(main())
