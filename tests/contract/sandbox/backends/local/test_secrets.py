"""A secret of the server is in no process of the sandbox: it was never told."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.contract.sandbox.backends.local.grounds import grounds
from tests.contract.sandbox.backends.local.host import environment_of, memory_of, tree_of, until
from tests.contract.sandbox.backends.orders import run
from trainyard.core.settings import DatabaseSettings, SandboxSettings, Settings

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def canary() -> Iterator[str]:
    value = f"canary{secrets.token_hex(16)}"
    os.environ["TRAINYARD_SECRET"] = os.environ["SOME_PASSWORD"] = value
    yield value
    del os.environ["TRAINYARD_SECRET"], os.environ["SOME_PASSWORD"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can read the memory of the boxes")
async def test_no_process_of_the_sandbox_has_a_secret_of_the_server(canary: str, tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path / "data",
        secret=SecretStr(canary),
        database=DatabaseSettings(url=f"postgresql://user:{canary}@127.0.0.1/db"),
        sandbox=SandboxSettings(warm=2),
    )
    async with grounds(tmp_path, settings) as made:
        box = await made.backend.take("lean", "tenant")
        await run(box, "x = 1")
        zygote = made.zygote().pid
        assert zygote is not None
        seen = [set[int]()]

        def is_settled() -> bool:
            """A box that is being made has other processes for a moment."""
            seen.append(tree_of(zygote))
            return len(seen[-1]) == 7 and len(seen) > 10 and all(one == seen[-1] for one in seen[-10:])

        await until(is_settled, "there are not a zygote and three boxes of two processes")
        pids = seen[-1]

        found = [pid for pid in pids if any(canary.encode() in part for part in memory_of(pid))]
        environments = b"".join(map(environment_of, pids))

        assert found == []
        assert set(environments.split(b"\0")) <= {b"", b"LC_CTYPE=C.UTF-8"}, "what Python sets in a C locale"
        assert any(canary.encode() in part for part in memory_of(os.getpid())), "the search finds nothing at all"
        await box.close()
