import subprocess
import zipfile
from pathlib import Path

import pytest

from trainyard.core import errors, settings
from trainyard.sandbox import packages


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package that needs no index."""
    path = tmp_path_factory.mktemp("wheel") / "answer-1.5-py3-none-any.whl"
    about = "answer-1.5.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("answer.py", "VALUE = 42\n")
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: answer\nVersion: 1.5\n")
        archive.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{about}/RECORD", f"answer.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")
    return path


def _make(path: Path, *wanted: str, force: bool = False) -> tuple[packages.Made, bool]:
    return packages.make(path, wanted, typescript=False, force=force, tell=lambda _: None)


def test_an_environment_is_made_once_and_replaced_as_a_whole(wheel: Path, tmp_path: Path) -> None:
    path = tmp_path / "packages"
    made, is_new = _make(path, str(wheel))
    assert (is_new, made.installed["answer"], made.typescript) == (True, "1.5", None)
    told = subprocess.run(
        [path / "bin" / "python3", "-c", "import answer; print(answer.VALUE)"], capture_output=True, check=True
    )
    assert told.stdout == b"42\n"
    first = path.resolve()
    assert _make(path, str(wheel)) == (made, False)
    assert path.resolve() == first

    with pytest.raises(errors.Unavailable, match="pip cannot install them"):
        _make(path, str(tmp_path / "nothing.whl"))
    assert path.resolve() == first
    assert [one for one in tmp_path.iterdir() if one.is_dir() and one not in (path, first)] == []

    other, is_new = _make(path)
    assert (is_new, "answer" in other.installed) == (True, False)
    assert first.is_dir()
    second = path.resolve()
    _make(path, force=True)
    assert (first.is_dir(), second.is_dir(), path.resolve() != second) == (False, True, True)


def test_a_directory_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "packages"
    path.mkdir()
    with pytest.raises(errors.Conflict, match="not made by `trainyard sandbox setup`"):
        _make(path)
    assert list(path.iterdir()) == []


def test_the_environment_lies_in_the_data_directory_or_where_the_setting_says(tmp_path: Path) -> None:
    effective = settings.load({"data_dir": tmp_path}, environ={})
    assert packages.place(effective) == tmp_path / "sandbox" / "packages"
    assert packages.find(effective) is None

    named = settings.load({"data_dir": tmp_path, "sandbox.packages": tmp_path / "own"}, environ={})
    with pytest.raises(errors.ConfigError, match=r"own is no virtual environment"):
        packages.find(named)
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "pyvenv.cfg").touch()
    (tmp_path / "own").symlink_to("real")
    assert packages.find(named) == tmp_path / "real"


@pytest.mark.parametrize("content", [None, "", "{", "{}", '{"wanted": 1}'])
def test_what_was_not_made_by_setup_is_told_apart(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "made.json").write_text(content)
    assert packages.read(tmp_path) is None
