"""Files into a box, out of it, and what is told of those that code has left."""

import hashlib
import os
from collections.abc import AsyncIterator

import pytest

from tests.contract.sandbox.backends.orders import pieces, put, read, run
from trainyard.core import errors
from trainyard.sandbox.backends.base import Box
from trainyard.sandbox.types.orders import Report

pytestmark = pytest.mark.asyncio(loop_scope="session")


def _changes(report: Report) -> dict[str, tuple[str, int]]:
    return {change.path: (change.kind, change.size_bytes) for change in report.changed}


@pytest.mark.parametrize(
    "path", ["a.txt", "deep/er/b.txt", "mit Leerzeichen/ü 🐍.csv", ".hidden", "x" * 255, "a\nb", "-rf", "a\\b"]
)
async def test_a_file_comes_back_as_it_was_put(box: Box, path: str) -> None:
    content = os.urandom(3 << 20)

    await put(box, path, content)

    kept = await run(box, f"import hashlib\nprint(hashlib.sha256(open({path!r}, 'rb').read()).hexdigest())")
    assert kept.stdout.decode().strip() == hashlib.sha256(content).hexdigest()
    assert await read(box, path) == content
    assert _changes(kept.report) == {path: ("new", 3 << 20)}


async def test_an_empty_file_is_a_file(box: Box) -> None:
    await put(box, "empty", b"")

    assert await read(box, "empty") == b""
    assert _changes((await run(box, "1")).report) == {"empty": ("new", 0)}


async def test_a_file_of_many_windows_comes_back_whole(box: Box) -> None:
    content = os.urandom(11 << 20)
    await put(box, "large", content)

    assert await read(box, "large") == content


async def test_a_file_keeps_its_mode(box: Box) -> None:
    await box.put("data", "fixed", 1, pieces(b"x"), mode=0o444)

    assert (await run(box, "import os\nprint(oct(os.stat('fixed').st_mode & 0o777))")).stdout == b"0o444\n"


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../out", "a/../../out", "a//b", "a/", "./a", "a/.", "x" * 256, "a\0b"]
)
async def test_a_path_that_leads_out_or_nowhere_is_refused(box: Box, path: str) -> None:
    with pytest.raises(errors.InvalidRequest):
        await put(box, path, b"x")
    with pytest.raises(errors.InvalidRequest):
        await read(box, path)
    with pytest.raises(errors.InvalidRequest):
        await box.delete("data", path)
    assert (await run(box, "1")).report.changed == []


@pytest.mark.parametrize(("said", "sent"), [(5, b"1234"), (3, b"1234"), (0, b"x"), (1, b"")])
async def test_a_content_that_is_not_as_long_as_was_said_leaves_nothing(box: Box, said: int, sent: bytes) -> None:
    await put(box, "a", b"before")

    with pytest.raises(errors.InvalidRequest):
        await box.put("data", "a", said, pieces(sent))

    assert await read(box, "a") == b"before"
    assert _changes((await run(box, "1")).report) == {"a": ("new", 6)}


async def test_a_sender_that_fails_leaves_nothing(box: Box) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"123"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await box.put("data", "a", 6, failing())

    assert (await run(box, "import os\nprint(os.listdir())")).stdout == b"[]\n"


@pytest.mark.parametrize(
    "code",
    [
        "os.symlink('/tmp', 'link')",
        "os.symlink(os.path.realpath('..'), 'link')",
        "os.symlink('.', 'link')",
    ],
)
async def test_a_folder_that_is_a_link_leads_nowhere(box: Box, code: str) -> None:
    await run(box, f"import os\n{code}\nopen('real', 'w').write('x')")

    for path in ("link/real", "link/new"):
        with pytest.raises(errors.InvalidRequest):
            await put(box, path, b"y")
        with pytest.raises(errors.TrainyardError):
            await read(box, path)
    assert await read(box, "real") == b"x"


@pytest.mark.parametrize(
    "code",
    [
        "os.symlink('/etc/passwd', 'odd')",
        "os.symlink('real', 'odd')",
        "os.mkfifo('odd')",
        "import socket\nsocket.socket(socket.AF_UNIX).bind('odd')",
        "os.mkdir('odd')",
    ],
)
async def test_what_is_no_regular_file_is_not_read(box: Box, code: str) -> None:
    kept = await run(box, f"import os\nopen('real', 'w').write('x')\n{code}")

    with pytest.raises(errors.NotFound):
        await read(box, "odd")
    assert _changes(kept.report) == {"real": ("new", 1)}
    skipped = [] if "mkdir" in code else ["odd"]
    assert [line.split(":")[0] for line in kept.report.skipped] == skipped


async def test_a_file_put_where_a_link_is_replaces_the_link(box: Box) -> None:
    await run(box, "import os\nopen('target', 'w').write('x')\nos.symlink('target', 'name')")

    await put(box, "name", b"y")

    assert await read(box, "target") == b"x"
    assert await read(box, "name") == b"y"


async def test_links_within_the_workspace_are_files_and_hard_links_out_of_it_are_not(box: Box) -> None:
    code = (
        "import os, tempfile\nopen('a', 'w').write('x')\nos.link('a', 'b')\n"
        "out = tempfile.mkdtemp()\nopen(out + '/c', 'w').write('secret')\n"
        "try:\n    os.link(out + '/c', 'c')\n    print('linked')\nexcept OSError: pass"
    )

    kept = await run(box, code)

    assert _changes(kept.report) == {"a": ("new", 1), "b": ("new", 1)}
    expected = ["c: hard link to a file elsewhere"] if kept.stdout else []
    assert kept.report.skipped == expected


async def test_names_that_are_no_utf8_are_skipped_and_shown(box: Box) -> None:
    kept = await run(box, "open(b'bad-\\xff', 'w').write('x')\nopen('good', 'w').write('x')")

    assert _changes(kept.report) == {"good": ("new", 1)}
    assert kept.report.skipped == ["bad-\\udcff: name is no UTF-8"]


async def test_only_what_differs_from_what_was_accepted_is_told(box: Box) -> None:
    for name in ("same", "edited", "removed", "moved"):
        await put(box, f"in/{name}", b"12345")
    await box.accept()

    kept = await run(
        box,
        "import os\nopen('in/edited', 'r+').write('54321')\nos.remove('in/removed')\n"
        "os.rename('in/moved', 'in/there')\nopen('new', 'w').write('1')",
    )

    assert _changes(kept.report) == {"in/edited": ("changed", 5), "in/there": ("new", 5), "new": ("new", 1)}
    assert sorted(kept.report.deleted) == ["in/moved", "in/removed"]
    assert _changes((await run(box, "1")).report) == _changes(kept.report)
    await box.accept()
    again = (await run(box, "1")).report
    assert (again.changed, again.deleted, again.skipped) == ([], [], [])


async def test_a_run_that_fails_tells_its_files_too(box: Box) -> None:
    assert _changes((await run(box, "open('a', 'w').write('x')\n1/0")).report) == {"a": ("new", 1)}


async def test_ten_thousand_small_files_are_told_in_time(box: Box) -> None:
    kept = await run(
        box,
        (
            "import os\nfor i in range(100):\n    os.mkdir(str(i))\n"
            "    for j in range(100): open(f'{i}/{j}', 'w').write('x')"
        ),
    )

    assert len(kept.report.changed) == 10_000
    assert kept.report.wall_s < 15
    await box.accept()
    assert (await run(box, "1")).report.changed == []


async def test_folders_nested_to_any_depth_are_walked(box: Box) -> None:
    code = (
        "import os\ntop = os.open('.', os.O_RDONLY)\nhere = top\nfor i in range(3000):\n"
        "    os.mkdir('d', dir_fd=here)\n    below = os.open('d', os.O_RDONLY, dir_fd=here)\n"
        "    if here != top: os.close(here)\n    here = below\n"
        "os.close(os.open('deep', os.O_CREAT | os.O_WRONLY, dir_fd=here))\nopen('d/near', 'w').write('x')"
    )

    kept = await run(box, code)

    assert kept.report.is_success
    assert _changes(kept.report) == {"d/near": ("new", 1)}
    assert len(kept.report.skipped) == 1
    assert kept.report.skipped[0].endswith(": path is too long")


async def test_a_folder_that_its_owner_may_not_read_hides_nothing(box: Box) -> None:
    kept = await run(box, "import os\nos.mkdir('d')\nopen('d/a', 'w').write('x')\nos.chmod('d', 0)")

    assert _changes(kept.report) == {"d/a": ("new", 1)}


async def test_delete_removes_a_file_once(box: Box) -> None:
    await put(box, "in/a", b"x")

    assert [await box.delete("data", "in/a"), await box.delete("data", "in/a")] == [True, False]
    with pytest.raises(errors.NotFound):
        await read(box, "in/a")
    with pytest.raises(errors.InvalidRequest):
        await box.delete("data", "in")


async def test_a_file_in_the_way_of_a_folder_is_refused(box: Box) -> None:
    await put(box, "a", b"x")

    with pytest.raises(errors.InvalidRequest):
        await put(box, "a/b", b"x")


async def test_a_file_that_changes_while_it_is_read_is_not_mixed(box: Box) -> None:
    await put(box, "large", bytes(9 << 20))
    reading = box.get("data", "large")
    await anext(reading)
    await put(box, "large", b"x" * (9 << 20))

    with pytest.raises(errors.Conflict):
        async for _piece in reading:
            pass
