from pathlib import Path

from trainyard.core import hub_cache


def _download(cache: Path, commit: str = "abc") -> Path:
    model = cache / "models--org--name"
    directory = model / "snapshots" / commit
    directory.mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(commit)
    (directory / "config.json").write_text("{}")
    return directory


def test_a_downloaded_model_is_found(tmp_path: Path) -> None:
    directory = _download(tmp_path)
    assert hub_cache.find("org/name", tmp_path) == directory


def test_what_was_not_downloaded_is_none(tmp_path: Path) -> None:
    assert hub_cache.find("org/name", tmp_path) is None


def test_half_a_download_is_none(tmp_path: Path) -> None:
    (_download(tmp_path) / "config.json").unlink()
    assert hub_cache.find("org/name", tmp_path) is None


def test_a_reference_cannot_lead_out_of_the_cache(tmp_path: Path) -> None:
    _download(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "models--org--name" / "refs" / "main").write_text("../../..")
    assert hub_cache.find("org/name", tmp_path) is None
