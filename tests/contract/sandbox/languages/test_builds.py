"""What is kept of compilers: how much, for how long, and nothing that is no program. Here a shell is the compiler."""

import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
import pytest_asyncio

from trainyard.sandbox.backends.base import Box, Kept
from trainyard.sandbox.backends.fake import FakeBackend
from trainyard.sandbox.languages import Builds, Language, Prepared
from trainyard.sandbox.languages.recipe import ARTIFACT, Recipe
from trainyard.sandbox.languages.toolchain import Toolchain
from trainyard.sandbox.types.domain import LanguageInfo
from trainyard.sandbox.types.orders import Order, Program, Step

pytestmark = pytest.mark.asyncio(loop_scope="session")

COMPILE = 'cat "$0" > "$1/program"; chmod +x "$1/program"; echo compiled >&2'
LINK = 'ln -s "$0" "$1/program"; echo compiled >&2'
SCRIPT = "#!/bin/sh\necho ran {}\n"


def _language(compiler: str = COMPILE, version: str = "1.0") -> Language:
    def prepare(tools: Toolchain, code: str) -> Prepared:
        steps = (
            Step(phase="compile", argv=("/bin/sh", "-c", compiler, "{file}", "{dir}")),
            Step(phase="run", argv=("{dir}/" + ARTIFACT, "{args}")),
        )
        return Prepared(code, Program(file="main.sh", steps=steps, artifact=ARTIFACT))

    recipe = Recipe(code="sh", name="Shell", aliases=(), needs=(), prepare=prepare, package="")
    return Language(
        LanguageInfo(code="sh", name="Shell", aliases=(), version=version), recipe, Toolchain({}, version, 1)
    )


@pytest_asyncio.fixture(loop_scope="session")
async def fake_box() -> AsyncIterator[Box]:
    backend = FakeBackend()
    yield await backend.take("lean", "lab")
    await backend.aclose()


async def _run(
    box: Box,
    builds: Builds,
    name: str = "a",
    *,
    language: Language | None = None,
    code: str = SCRIPT,
    tenant: str = "lab",
    files: Mapping[str, str] | None = MappingProxyType({}),
    env: Mapping[str, str] = MappingProxyType({}),
) -> Kept:
    chosen = language or _language()
    prepared = chosen.prepare(code.replace("{}", name))
    order = Order(code=prepared.code, program=prepared.program, timeout_s=20, env=env)
    return await builds.run(box, chosen, order, tenant=tenant, files=files)


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def _age_newest(directory: Path, moment: int) -> None:
    """Let the one file that was not aged yet count as used then."""
    (new,) = (path for path in directory.iterdir() if path.stat().st_mtime > 1_000_000)
    os.utime(new, (moment, moment))


def _leave_half(directory: Path) -> None:
    directory.mkdir()
    for name in (".part-old", ".part-new"):
        (directory / name).write_bytes(b"half")
    os.utime(directory / ".part-old", (1000, 1000))


async def _was_compiled(box: Box, builds: Builds, name: str) -> bool:
    kept = await _run(box, builds, name)
    assert kept.stdout == f"ran {name}\n".encode()
    return kept.stderr == b"compiled\n"


async def test_the_compiler_is_asked_once(fake_box: Box, builds_directory: Path) -> None:
    builds = Builds(builds_directory, 1 << 20)
    assert [await _was_compiled(fake_box, builds, "a") for _ in range(3)] == [True, False, False]
    assert [await _was_compiled(fake_box, builds, "b") for _ in range(2)] == [True, False]


async def test_another_process_finds_it_too(fake_box: Box, builds_directory: Path) -> None:
    assert await _was_compiled(fake_box, Builds(builds_directory, 1 << 20), "a")
    assert not await _was_compiled(fake_box, Builds(builds_directory, 1 << 20), "a")
    assert _mode(builds_directory) == 0o700


@pytest.mark.parametrize(
    ("language", "tenant"),
    [(_language(version="1.1"), "lab"), (_language(compiler=COMPILE + " "), "lab"), (_language(), "other")],
)
async def test_another_version_flag_or_tenant_is_another_build(
    fake_box: Box, builds_directory: Path, language: Language, tenant: str
) -> None:
    builds = Builds(builds_directory, 1 << 20)
    await _run(fake_box, builds)
    assert (await _run(fake_box, builds, language=language, tenant=tenant)).stderr == b"compiled\n"
    assert len(_names(builds_directory)) == 2


@pytest.mark.parametrize(
    ("files", "env"),
    [({"a.h": "1" * 64}, {}), ({"b.h": "0" * 64}, {}), ({}, {}), ({"a.h": "0" * 64}, {"CPATH": "/mnt/data"})],
)
async def test_other_files_or_variables_are_another_build(
    fake_box: Box, builds_directory: Path, files: Mapping[str, str], env: Mapping[str, str]
) -> None:
    builds = Builds(builds_directory, 1 << 20)
    first = {"a.h": "0" * 64}
    await _run(fake_box, builds, files=first)
    assert (await _run(fake_box, builds, files=first)).stderr == b""
    assert (await _run(fake_box, builds, files=files, env=env)).stderr == b"compiled\n"


async def test_where_files_are_not_known_nothing_is_kept_and_nothing_taken(
    fake_box: Box, builds_directory: Path
) -> None:
    builds = Builds(builds_directory, 1 << 20)
    assert [(await _run(fake_box, builds, files=None)).stderr for _ in range(2)] == [b"compiled\n"] * 2
    assert _names(builds_directory) == []
    await _run(fake_box, builds)
    assert (await _run(fake_box, builds, files=None)).stderr == b"compiled\n"


async def test_without_room_nothing_is_kept(fake_box: Box, builds_directory: Path) -> None:
    assert [await _was_compiled(fake_box, Builds(builds_directory, 0), "a") for _ in range(2)] == [True, True]
    assert [await _was_compiled(fake_box, Builds(builds_directory, 100), "a") for _ in range(2)] == [True, True]
    assert _names(builds_directory) == []


async def test_what_was_not_used_for_longest_goes_first(fake_box: Box, builds_directory: Path) -> None:
    size_bytes = len(SCRIPT.replace("{}", "a"))
    builds = Builds(builds_directory, 10 * size_bytes)
    for age, name in enumerate("abcdefghij"):
        assert await _was_compiled(fake_box, builds, name)
        _age_newest(builds_directory, 1000 + age)
    assert not await _was_compiled(fake_box, builds, "a")
    assert await _was_compiled(fake_box, builds, "k")
    assert len(_names(builds_directory)) == 10
    assert not await _was_compiled(fake_box, builds, "a")
    assert await _was_compiled(fake_box, builds, "b")


async def test_what_a_killed_server_has_half_written_goes(fake_box: Box, builds_directory: Path) -> None:
    _leave_half(builds_directory)
    await _run(fake_box, Builds(builds_directory, 1 << 20))
    names = _names(builds_directory)
    assert (".part-old" in names, ".part-new" in names, len(names)) == (False, True, 2)


async def test_a_link_is_no_program_to_keep(fake_box: Box, builds_directory: Path) -> None:
    builds = Builds(builds_directory, 1 << 20)
    await _run(fake_box, builds, language=_language(compiler=LINK))
    assert _names(builds_directory) == []


async def test_a_program_cannot_change_what_is_kept_of_it(fake_box: Box, builds_directory: Path) -> None:
    builds = Builds(builds_directory, 1 << 20)
    code = '#!/bin/sh\nrm "$0"; echo "#!/bin/sh" > "$0"; echo ran {}\n'
    assert (await _run(fake_box, builds, code=code)).stdout == b"ran a\n"
    assert (await _run(fake_box, builds, code=code)).stdout == b"ran a\n"


async def test_a_build_does_not_stay_in_the_box(fake_box: Box, builds_directory: Path) -> None:
    builds = Builds(builds_directory, 1 << 20)
    for _ in range(2):
        await _run(fake_box, builds)
        assert not await fake_box.delete("spool", "artifact")


async def test_a_directory_that_cannot_be_written_costs_the_compilation_alone(fake_box: Box, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    builds = Builds(tmp_path / "file" / "builds", 1 << 20)
    assert [await _was_compiled(fake_box, builds, "a") for _ in range(2)] == [True, True]
