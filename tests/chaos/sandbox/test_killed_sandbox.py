"""Sessions, files and states outlive a server that is killed without a warning."""

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.chaos.sandbox.working import ANNA, SESSIONS, sandbox
from trainyard.core.blobs import DirectoryBlobs
from trainyard.core.db import Database
from trainyard.sandbox.service.holding import LEASE_S
from trainyard.sandbox.store.tables import blobs
from trainyard.sandbox.types.domain import Execute

_ROOT = Path(__file__).parents[3]


def _killed_after(acknowledged: int, url: str, directory: Path) -> list[dict[str, Any]]:
    """Let a process work, kill it, and return what it had acknowledged."""
    command = [sys.executable, "-m", "tests.chaos.sandbox.working", url, str(directory)]
    scratch = directory / "scratch"
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch)}  # where the boxes of tests lie; nobody is left to remove them
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=_ROOT, env=environment) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(acknowledged)]
        process.kill()
        lines += process.stdout.readlines()
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def _named(database: Database) -> set[str]:
    with database.read() as connection:
        return set(connection.execute(select(blobs.c.sha256)).scalars())


@pytest.mark.parametrize("acknowledged", [1, 25, 80])
async def test_what_was_acknowledged_is_there_after_a_kill(
    any_database: Database, database_url: str, tmp_path: Path, acknowledged: int
) -> None:
    facts = await asyncio.to_thread(_killed_after, acknowledged, database_url, tmp_path)
    assert len(facts) >= acknowledged
    async with sandbox(database_url, tmp_path) as (service, _):
        for fact in facts:
            file, content = await service.open_file(ANNA, fact["session"], fact["file"])
            digest = hashlib.sha256(b"".join([piece async for piece in content])).hexdigest()
            assert digest == file.sha256 == fact["sha256"]
        began_s = time.monotonic()
        for session in {fact["session"] for fact in facts}:
            mine = [fact for fact in facts if fact["session"] == session]
            durable = max((fact["number"] for fact in mine if fact["is_durable"]), default=0)
            done = await service.execute(
                ANNA,
                Execute(
                    code="import os\nprint(globals().get('n', 0), len(os.listdir()))", language="py", session_id=session
                ),
                request_id="req_after",
            )
            number, files = map(int, done.stdout.split())
            assert durable <= number <= len(mine) + 1  # one run at most was done and not acknowledged
            assert len(mine) <= files <= len(mine) + 1
            assert done.is_new_runtime
        assert time.monotonic() - began_s < LEASE_S * SESSIONS / 2  # a dead holder is not waited for


async def test_a_kill_leaves_no_box_and_no_content_without_a_name(
    any_database: Database, database_url: str, tmp_path: Path
) -> None:
    facts = await asyncio.to_thread(_killed_after, 30, database_url, tmp_path)
    async with asyncio.timeout(20):
        while any(Path(f"/proc/{pid}").exists() for fact in facts for pid in fact["pids"]):  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(0.02)
    store = DirectoryBlobs(tmp_path / "blobs")
    await store.put_bytes(b"stored, and the process died before it had a name")
    async with sandbox(database_url, tmp_path) as (service, _):
        await service.gc(stray_s=0)
        assert {blob.sha256 async for blob in store.stored(min_age_s=0)} == _named(any_database)
        for session in {fact["session"] for fact in facts}:
            await service.delete_session(ANNA, session)
        await service.gc(stray_s=0)
        left = [one.id for one in await service.list_sessions(ANNA)]  # those whose first run was not acknowledged
        assert len(left) <= SESSIONS
        for session in left:
            await service.delete_session(ANNA, session)
        await service.gc(stray_s=0)
    assert [blob.sha256 async for blob in store.stored(min_age_s=0)] == []
    assert _named(any_database) == set()
