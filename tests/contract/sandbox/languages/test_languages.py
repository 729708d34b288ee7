"""Every language that runs here, on every backend."""

from pathlib import Path

import pytest

from tests.contract.sandbox.languages.sources import FAULTY, GOOD
from tests.services.require import missing
from trainyard.sandbox.backends.base import Box, Kept
from trainyard.sandbox.languages import Builds, Language, Languages
from trainyard.sandbox.types.orders import Order

pytestmark = pytest.mark.asyncio(loop_scope="session")

COMPILED = ("go", "java", "c", "cpp", "rs", "f90", "d")
LANGUAGES = tuple(GOOD)


def _find(languages: Languages, code: str) -> Language:
    if code in languages.missing:
        missing(f"the language {code}", languages.missing[code])
    return languages.find(code)


async def _run(box: Box, language: Language, code: str, builds: Builds | None = None, tenant: str = "lab") -> Kept:
    prepared = language.prepare(code)
    order = Order(code=prepared.code, program=prepared.program, args=("one", "two words"), timeout_s=60.0)
    return await (builds or Builds(Path(), 0)).run(box, language, order, tenant=tenant, files={}, stdin=b"said\n")


def _kept_in(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


@pytest.mark.parametrize("code", LANGUAGES)
async def test_a_program_gets_arguments_and_input_and_tells_its_exit_code(
    box: Box, languages: Languages, code: str
) -> None:
    kept = await _run(box, _find(languages, code), GOOD[code])
    assert (kept.stdout, kept.stderr) == (b"one|two words said\n", b"aside\n")
    assert (kept.report.exit_code, kept.report.signal, kept.report.reason) == (3, None, None)
    assert (kept.report.phase, kept.report.changed, kept.report.skipped) == ("run", [], [])


@pytest.mark.parametrize("code", LANGUAGES)
async def test_code_that_is_no_program_is_told_on_standard_error(box: Box, languages: Languages, code: str) -> None:
    language = _find(languages, code)
    faulty, says = FAULTY[code]
    kept = await _run(box, language, faulty)
    assert says in kept.stderr.decode()
    assert (kept.stdout, kept.report.reason) == (b"", None)
    assert kept.report.exit_code not in (0, None)
    assert kept.report.phase == ("compile" if code in (*COMPILED, "ts") else "run")


@pytest.mark.parametrize("code", COMPILED)
async def test_what_was_compiled_is_compiled_once_for_each_tenant(
    box: Box, languages: Languages, code: str, builds_directory: Path
) -> None:
    language, builds = _find(languages, code), Builds(builds_directory, 1 << 30)
    first = await _run(box, language, GOOD[code], builds)
    (built,) = _kept_in(builds_directory)
    content = built.read_bytes()
    second = await _run(box, language, GOOD[code], builds)
    assert (second.stdout, second.stderr, second.report.exit_code) == (first.stdout, first.stderr, 3)
    assert second.report.cpu_s < first.report.cpu_s
    assert (_kept_in(builds_directory), built.read_bytes()) == ([built], content)

    built.write_bytes(b"")  # whoever runs this, runs nothing
    foreign = await _run(box, language, GOOD[code], builds, tenant="other")
    assert foreign.stdout == first.stdout
    assert len(_kept_in(builds_directory)) == 2
    own = await _run(box, language, GOOD[code], builds)
    assert own.report.exit_code != 3


async def test_code_that_does_not_compile_is_not_kept(box: Box, languages: Languages, builds_directory: Path) -> None:
    builds = Builds(builds_directory, 1 << 30)
    language = _find(languages, "c")
    await _run(box, language, GOOD["c"], builds)
    kept = await _run(box, language, FAULTY["c"][0], builds)
    assert kept.report.phase == "compile"
    assert len(_kept_in(builds_directory)) == 1


async def test_bash_and_python_share_a_box(box: Box, languages: Languages) -> None:
    script = "python3 - <<'END' > made.txt\nprint(6 * 7)\nEND\ncat made.txt"
    kept = await _run(box, _find(languages, "bash"), script)
    assert (kept.stdout, kept.report.exit_code) == (b"42\n", 0)
    assert [change.path for change in kept.report.changed] == ["made.txt"]
    seen = await _run(box, _find(languages, "py"), "print(open('made.txt').read(), end='')")
    assert seen.stdout == b"42\n"


async def test_a_program_works_among_the_files(box: Box, languages: Languages) -> None:
    code = 'const fs = require("fs"); fs.writeFileSync("made.txt", process.cwd().length > 1 ? "yes" : "no");'
    kept = await _run(box, _find(languages, "js"), code)
    assert (kept.report.exit_code, [change.path for change in kept.report.changed]) == (0, ["made.txt"])


@pytest.mark.parametrize(
    "code",
    [
        "import fs from 'fs';\nconsole.log(typeof fs.readFileSync, typeof await 1);",
        "const fs = require('fs');\nconsole.log(typeof fs.readFileSync, typeof 1);",
        "import { createRequire } from 'module';\nconst require = createRequire(import.meta.url);\n"
        "console.log(typeof require('fs').readFileSync, typeof 1);",
        "module.exports = { f: () => 1 };\nenum E { A }\nconsole.log('function', typeof (E.A as number), );",
    ],
)
async def test_typescript_takes_modules_of_both_kinds(box: Box, languages: Languages, code: str) -> None:
    kept = await _run(box, _find(languages, "ts"), code)
    assert (kept.stdout, kept.stderr, kept.report.exit_code) == (b"function number\n", b"", 0)


async def test_a_fault_in_typescript_is_told_by_its_line(box: Box, languages: Languages) -> None:
    kept = await _run(box, _find(languages, "ts"), "type A = number;\n\nconst f = (): A => { throw Error('x') };\nf();")
    assert b"main.ts:3" in kept.stderr
    assert kept.report.exit_code == 1
