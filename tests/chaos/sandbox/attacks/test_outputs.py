"""Attacks by what is left in the workspace for others to read."""

import asyncio

import pytest

from tests.chaos.sandbox.attacks.attempts import PRELUDE
from tests.contract.sandbox.backends.orders import pieces, put, read, run, shell
from trainyard.core import errors
from trainyard.sandbox.backends.base import Box

pytestmark = pytest.mark.asyncio(loop_scope="session")

TARGETS = ["/etc/passwd", "/etc/shadow", "/proc/self/environ", "/proc/1/mem", "/proc/self/fd/0", "/", "../..", "loop"]


async def left(box: Box, code: str) -> tuple[list[str], list[str]]:
    """Paths of outputs and of what was refused."""
    report = (await run(box, PRELUDE + code)).report
    assert report.is_success
    return [change.path for change in report.changed], report.skipped


@pytest.mark.parametrize("target", TARGETS)
async def test_leaving_a_link_in_place_of_a_file(box: Box, target: str) -> None:
    assert await left(box, f"os.symlink({target!r}, 'loop')") == ([], ["loop: symbolic link"])
    with pytest.raises((errors.NotFound, errors.InvalidRequest)):
        await read(box, "loop")


@pytest.mark.parametrize("target", ["/etc", "/proc/self", "/proc/self/root", "..", "/usr"])
async def test_leaving_a_link_in_place_of_a_folder(box: Box, target: str) -> None:
    assert await left(box, f"os.symlink({target!r}, 'folder')") == ([], ["folder: symbolic link"])
    with pytest.raises((errors.NotFound, errors.InvalidRequest)):
        await read(box, "folder/passwd")
    with pytest.raises(errors.InvalidRequest):
        await put(box, "folder/evil", b"x")


@pytest.mark.parametrize(
    ("make", "kind"),
    [("os.mkfifo('odd')", "named pipe"), ("socket.socket(socket.AF_UNIX).bind('odd')", "socket")],
)
async def test_leaving_what_blocks_its_reader(box: Box, make: str, kind: str) -> None:
    assert await left(box, make) == ([], [f"odd: {kind}"])
    async with asyncio.timeout(5):
        with pytest.raises((errors.NotFound, errors.InvalidRequest)):
            await read(box, "odd")


async def test_leaving_a_hard_link_to_a_file_of_the_host(box: Box) -> None:
    code = """
print({tried(os.link, path, 'x') for path in ('/etc/passwd', '/usr/bin/env', '/proc/self/status', '/dev/null')})
"""
    kept = await run(box, PRELUDE + code)

    assert "done" not in kept.stdout.decode()
    assert kept.report.changed == []


async def test_leaving_a_hard_link_out_of_the_workspace(box: Box) -> None:
    code = "open('/tmp/x', 'w').write('x')\nprint(tried(os.link, '/tmp/x', 'x'))"

    assert (await run(box, PRELUDE + code)).stdout == b"EXDEV\n"


async def test_changing_a_file_while_it_is_read(box: Box) -> None:
    await run(box, "open('big', 'wb').write(b'a' * (12 << 20))")
    reading = box.get("data", "big")
    first = await anext(reading)
    await run(box, "open('big', 'r+b').write(b'b' * 100)")

    with pytest.raises(errors.Conflict):
        async for _ in reading:
            pass
    assert first == b"a" * len(first)


async def test_shortening_a_file_while_it_is_read(box: Box) -> None:
    await run(box, "open('big', 'wb').write(b'a' * (12 << 20))")
    reading = box.get("data", "big")
    await anext(reading)
    await run(box, "import os\nos.truncate('big', 10)")

    with pytest.raises(errors.Conflict):
        async for _ in reading:
            pass


async def test_replacing_a_folder_by_a_link_again_and_again_while_files_are_read(box: Box) -> None:
    code = """
os.makedirs('real'); open('real/passwd', 'w').write('mine')
end = time.monotonic() + 1.5
while time.monotonic() < end:
    os.symlink('real', 'new'); os.rename('new', 'way'); os.unlink('way')
    os.symlink('/etc', 'new'); os.rename('new', 'way'); os.unlink('way')
    os.rename('real', 'way'); os.rename('way', 'real')
"""
    running = asyncio.ensure_future(run(box, PRELUDE + code))
    seen = set()
    while not running.done():
        try:
            seen.add(await read(box, "way/passwd"))
        except (errors.NotFound, errors.InvalidRequest):
            continue

    assert (await running).report.is_success
    assert seen <= {b"mine", b""}


async def test_replacing_a_file_by_a_pipe_again_and_again_while_it_is_read(box: Box) -> None:
    code = """
end = time.monotonic() + 1
while time.monotonic() < end:
    open('odd', 'w').write('mine'); os.unlink('odd'); os.mkfifo('odd'); os.unlink('odd')
"""
    running = asyncio.ensure_future(run(box, PRELUDE + code))
    async with asyncio.timeout(20):
        while not running.done():
            try:
                assert await read(box, "odd") in (b"mine", b"")
            except (errors.NotFound, errors.InvalidRequest, errors.Conflict):
                continue
    await running


@pytest.mark.parametrize(
    "name", [b"a\nb", b"a\rb\r\nX-Evil: 1", b"\x1b[2J", b" ", b"-rf", b"a\tb", "\u202etxt.exe".encode()]
)
async def test_naming_a_file_with_controls(box: Box, name: bytes) -> None:
    paths, _ = await left(box, f"open({name!r}, 'w').write('x')")

    assert paths == [name.decode()]
    assert await read(box, paths[0]) == b"x"


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\xc0\xafb", b"\xed\xa0\x80"])
async def test_naming_a_file_with_what_is_no_text(box: Box, name: bytes) -> None:
    paths, skipped = await left(box, f"open({name!r}, 'w').write('x')")

    assert paths == []
    assert len(skipped) == 1
    skipped[0].encode()


async def test_leaving_more_names_than_fit_into_a_report(box: Box) -> None:
    kept = await run(box, "for n in range(19000): open(f'{n}-' + 'x' * 240, 'w').close()", memory_bytes=1 << 30)

    assert sum(len(change.path) for change in kept.report.changed) <= 4 << 20
    assert kept.report.skipped[-1].endswith("too many")
    await shell(box, "find . -delete", memory_bytes=1 << 30)


async def test_locking_the_workspace_against_its_owner(box: Box) -> None:
    code = "os.mkdir('d'); open('d/x', 'w').write('x'); os.chmod('d/x', 0); os.chmod('d', 0)\n"
    code += "for place in ('/tmp', '/dev/shm', '/mnt/data'): os.chmod(place, 0)"
    kept = await run(box, PRELUDE + code)

    assert kept.report.is_success
    assert (await shell(box, "echo here; ls d")).stdout == b"here\nx\n"
    await box.put("data", "later", 1, pieces(b"y"))
    assert await read(box, "later") == b"y"


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "./x", "a//b", "x\0y", "", ".", "a" * 300])
async def test_asking_for_a_path_that_leads_out(box: Box, path: str) -> None:
    with pytest.raises((errors.InvalidRequest, errors.NotFound)):
        await read(box, path)
    with pytest.raises(errors.InvalidRequest):
        await put(box, path, b"x")
