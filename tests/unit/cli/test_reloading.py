"""When the configuration is read again, and what of it can take effect."""

from pathlib import Path

import pytest

from trainyard.cli.reloading import FileWatch, check_written, needs_restart
from trainyard.core import errors
from trainyard.core.settings import CacheSettings, LimitSettings, ServerSettings, Settings


def test_a_file_that_was_left_alone_has_not_changed(tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text("models: []")
    watch = FileWatch([file])
    assert [watch.has_changed() for _ in range(3)] == [False, False, False]


@pytest.mark.parametrize("change", ["write", "remove", "replace"])
def test_a_change_is_told_once_and_only_after_it_has_settled(tmp_path: Path, change: str) -> None:
    file = tmp_path / "models.yaml"
    file.write_text("models: []")
    watch = FileWatch([file])
    match change:
        case "write":
            file.write_text("models: [{name: a}]")
        case "remove":
            file.unlink()
        case _:
            (tmp_path / "new").write_text("models: []")
            (tmp_path / "new").replace(file)
    assert [watch.has_changed() for _ in range(3)] == [False, True, False]


def test_a_file_that_is_still_being_written_waits(tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    watch = FileWatch([file])
    for size in (1, 2, 3):
        file.write_text("x" * size)
        assert not watch.has_changed()
    assert watch.has_changed()


def test_other_files_can_be_followed(tmp_path: Path) -> None:
    watch = FileWatch([tmp_path / "a"])
    watch.follow([tmp_path / "b"])
    (tmp_path / "a").write_text("x")
    assert [watch.has_changed(), watch.has_changed()] == [False, False]
    (tmp_path / "b").write_text("x")
    assert [watch.has_changed(), watch.has_changed()] == [False, True]


def test_a_change_while_the_files_were_read_is_not_lost(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("x")
    watch = FileWatch([file])
    file.write_text("xx")
    assert [watch.has_changed(), watch.has_changed()] == [False, True]
    file.write_text("xxx")  # while the second one is read
    watch.follow([file, tmp_path / "b"])
    assert [watch.has_changed() for _ in range(3)] == [False, True, False]


@pytest.mark.parametrize("content", ["", " \n", None])
def test_a_catalog_without_a_word_is_refused(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "models.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(errors.ConfigError):
        check_written(file)


def test_a_catalog_with_words_and_no_catalog_at_all_are_fine(tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_bytes(b"\xff models: []")  # what it says is looked at elsewhere
    check_written(file)
    check_written(None)


@pytest.mark.parametrize(
    ("new", "named"),
    [
        (Settings(), []),
        (Settings(limits=LimitSettings(requests=3)), []),
        (Settings(limits=LimitSettings(window_s=5)), ["limits.window_s"]),
        (Settings(models_file=Path("other.yaml")), []),
        (Settings(cache=CacheSettings(ttl_s=5)), ["cache.ttl_s"]),
        (Settings(server=ServerSettings(port=1, workers=2)), ["server.port", "server.workers"]),
    ],
)
def test_what_is_read_at_the_start_only_is_named(new: Settings, named: list[str]) -> None:
    assert needs_restart(Settings(), new) == named
