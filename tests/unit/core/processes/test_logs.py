import asyncio
from pathlib import Path

from trainyard.core.processes import logs


def test_a_log_is_private_and_grows_at_its_end(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "http.log"
    for line in (b"one\n", b"two\n"):
        with logs.appended(log) as file:
            assert file is not None
            file.write(line)
    assert log.read_bytes() == b"one\ntwo\n"
    assert log.stat().st_mode & 0o777 == 0o600
    assert log.parent.stat().st_mode & 0o777 == 0o700


def test_a_log_over_its_size_becomes_the_older_one(tmp_path: Path) -> None:
    log, older = tmp_path / "a.log", tmp_path / "a.log.1"
    log.write_bytes(b"x" * 10)
    logs.bound(log, 10)
    assert not older.exists()
    for content in (b"y" * 11, b"z" * 12):
        log.write_bytes(content)
        logs.bound(log, 10)
        assert (log.read_bytes(), older.read_bytes()) == (b"", content)
    assert older.stat().st_mode & 0o777 == 0o600


async def test_a_log_is_bounded_while_its_writer_runs(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    keeping = asyncio.create_task(logs.keep_bounded(log, 1000, 0.01))
    with logs.appended(log) as file:
        assert file is not None
        for _ in range(50):
            file.write(b"x" * 100)
            file.flush()
            await asyncio.sleep(0.01)
    async with asyncio.timeout(20):
        while log.stat().st_size > 1000 or not (tmp_path / "a.log.1").exists():  # noqa: ASYNC110 - files do not tell
            await asyncio.sleep(0.01)
    keeping.cancel()


async def test_a_disk_that_refuses_is_tried_again(tmp_path: Path) -> None:
    log, older = tmp_path / "a.log", tmp_path / "a.log.1"
    older.mkdir()
    log.write_bytes(b"x" * 11)
    keeping = asyncio.create_task(logs.keep_bounded(log, 10, 0.01))
    await asyncio.sleep(0.1)
    assert log.stat().st_size == 11
    older.rmdir()
    async with asyncio.timeout(20):
        while log.stat().st_size:  # noqa: ASYNC110 - the file does not tell
            await asyncio.sleep(0.01)
    keeping.cancel()
