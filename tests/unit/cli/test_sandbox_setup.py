import json
import sys
from pathlib import Path

import msgspec
import pytest

from trainyard.cli import edge
from trainyard.sandbox import packages


def _there(data_dir: Path, wanted: tuple[str, ...]) -> Path:
    path = data_dir / "sandbox" / "packages"
    path.parent.mkdir(parents=True)
    made = path.with_name("packages.made")
    made.mkdir()
    facts = packages.Made(wanted=wanted, python=sys.version.split()[0], installed={"x": "1"}, typescript="esbuild")
    (made / "made.json").write_bytes(msgspec.json.encode(facts))
    path.symlink_to(made.name)
    return path


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([], ("numpy", "pandas", "matplotlib")),
        (["--packages", "numpy", "pandas", "six"], ("numpy", "pandas", "six")),
        (["six", "numpy"], ("six", "numpy")),
    ],
)
def test_packages_are_named_as_a_list_and_made_once(
    arguments: list[str],
    wanted: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    path = _there(tmp_path / "data", wanted)
    assert edge.run(["sandbox", "setup", "--data-dir", "data", "--json", *arguments]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["path"], told["changed"], told["packages"]) == (str(path), False, {"x": "1"})
