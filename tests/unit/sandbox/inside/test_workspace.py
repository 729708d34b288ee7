"""Files by relative path, in plain directories."""

import functools
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trainyard.sandbox.inside import workspace, workspace_scan
from trainyard.sandbox.inside.workspace import Folder, Refused


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "root").mkdir()
    descriptor = os.open(tmp_path / "root", os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def _put(folder: Folder, path: str, content: bytes) -> None:
    incoming = folder.receive(path, len(content), 0o644)
    incoming.write(content)
    incoming.finish()


def _open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("path", ["a", "a/b/c", "ü/🐍", "..a", "a..", " "])
def test_a_file_is_written_and_read(root: int, path: str) -> None:
    folder, before = Folder(root), _open_descriptors()

    _put(folder, path, b"content")
    descriptor = folder.open_file(path)

    assert os.read(descriptor, 100) == b"content"
    os.close(descriptor)
    assert folder.delete(path)
    assert not folder.delete(path)
    assert _open_descriptors() == before


@pytest.mark.parametrize("path", ["", "/", "/a", "..", "a/..", "a/../b", ".", "a//b", "a/", "\0", "x" * 256, "é" * 128])
def test_other_paths_are_refused(root: int, path: str) -> None:
    folder = Folder(root)
    for call in (folder.open_file, folder.delete, functools.partial(folder.receive, size_bytes=1, mode=0o644)):
        with pytest.raises(Refused) as caught:
            call(path)
        assert caught.value.code == "invalid_path"


def test_no_link_is_followed_on_the_way(root: int, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("x")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "root" / "file").symlink_to(tmp_path / "outside" / "secret")

    calls: list[Callable[[str], object]] = [Folder(root).open_file, Folder(root).delete]
    for call in calls:
        with pytest.raises(Refused) as caught:
            call("link/secret")
        assert caught.value.code == "invalid_path"
    with pytest.raises(Refused) as caught:
        Folder(root).open_file("file")
    assert caught.value.code == "not_found"
    assert Folder(root).delete("file")
    assert (tmp_path / "outside" / "secret").read_text() == "x"


def test_a_file_that_is_given_up_leaves_nothing(root: int, tmp_path: Path) -> None:
    incoming, before = Folder(root).receive("a", 10, 0o644), _open_descriptors()
    incoming.write(b"12345")
    with pytest.raises(Refused):
        incoming.finish()
    with pytest.raises(Refused):
        incoming.write(b"1234567")

    incoming.abandon()

    assert list((tmp_path / "root").iterdir()) == []
    assert _open_descriptors() == before - 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(28, "full"), "workspace_full"),
        (OSError(122, "quota"), "workspace_full"),
        (OSError(40, "loop"), "invalid_path"),
        (OSError(2, "none"), "not_found"),
        (OSError(5, "broken"), "io_error"),
    ],
)
def test_errors_of_the_file_system_have_codes(error: OSError, code: str) -> None:
    assert workspace.refusal(error, "a").code == code


def test_a_tree_of_any_depth_is_removed_and_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "keep").write_text("x")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to(tmp_path)
    here = os.open(tmp_path / "tree", os.O_RDONLY)
    for _ in range(2500):
        os.mkdir("d", dir_fd=here)
        here = workspace.moved(here, os.open("d", os.O_RDONLY, dir_fd=here))
    os.close(os.open("deep", os.O_CREAT, dir_fd=here))
    os.close(here)

    workspace.remove_tree(str(tmp_path / "tree"))

    assert [path.name for path in tmp_path.iterdir()] == ["keep"]


def test_a_scan_tells_files_from_everything_else(root: int, tmp_path: Path) -> None:
    base = tmp_path / "root"
    (base / "a").write_text("12")
    (base / "d").mkdir()
    (base / "d" / "b").write_text("1")
    (base / "link").symlink_to("a")
    os.mkfifo(base / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"/proc/self/fd/{root}/socket")
    os.link(base / "a", base / "twin")
    (tmp_path / "elsewhere").write_text("x")
    os.link(tmp_path / "elsewhere", base / "hard")
    Path(os.fsdecode(bytes(base) + b"/bad\xff")).write_text("x")

    findings = workspace_scan.scan(root)

    assert {path: seen.size for path, seen in findings.files.items()} == {"a": 2, "d/b": 1, "twin": 2}
    assert findings.oddities == {
        "link": "symbolic link",
        "pipe": "named pipe",
        "socket": "socket",
        "hard": "hard link to a file elsewhere",
        "bad\\udcff": "name is no UTF-8",
    }


def test_the_ledger_tells_what_differs(root: int, tmp_path: Path) -> None:
    base = tmp_path / "root"
    for name in ("same", "grown", "gone"):
        (base / name).write_text(name)
    ledger = workspace_scan.Ledger(root)
    ledger.accept()
    (base / "grown").write_text("longer")
    (base / "gone").unlink()
    (base / "new").write_text("")
    (base / "link").symlink_to("new")

    report = ledger.report()

    assert [(change["path"], change["kind"], change["size_bytes"]) for change in report["changed"]] == [
        ("grown", "changed", 6),
        ("new", "new", 0),
    ]
    assert (report["deleted"], report["skipped"]) == (["gone"], ["link: symbolic link"])
    ledger.accept()
    assert ledger.report() == {"changed": [], "deleted": [], "skipped": []}


def test_what_does_not_fit_into_a_report_is_counted(root: int, tmp_path: Path) -> None:
    for i in range(workspace_scan.MAX_SKIPPED + 5):
        (tmp_path / "root" / f"link-{i}").symlink_to("x")

    skipped = workspace_scan.Ledger(root).report()["skipped"]

    assert len(skipped) == workspace_scan.MAX_SKIPPED + 1
    assert skipped[-1] == "5 more: too many"
