"""A compiled language and an interpreted one on every backend: what boxes see of a toolchain is enough."""

from pathlib import Path

import pytest

from tests.contract.sandbox.backends.orders import read
from tests.contract.sandbox.languages.sources import FAULTY, GOOD
from tests.services.require import missing
from trainyard.core import errors
from trainyard.sandbox.backends.base import Backend, Box
from trainyard.sandbox.languages import Builds, Languages, Reach
from trainyard.sandbox.types.orders import Order

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def prepared(code: str, language: str) -> Order:
    languages = await Languages.discover(Reach(), 512 << 20)
    if language in languages.missing:
        missing(f"the language {language}", languages.missing[language])
    made = languages.find(language).prepare(code)
    return Order(code=made.code, program=made.program, args=("one", "two words"), timeout_s=60.0)


@pytest.mark.parametrize("language", ["c", "js"])
async def test_its_program_talks(box: Box, language: str) -> None:
    kept = await box.run(await prepared(GOOD[language], language), b"said\n")

    assert (kept.stdout, kept.stderr, kept.report.exit_code) == (b"one|two words said\n", b"aside\n", 3)
    assert (kept.report.changed, kept.report.skipped) == ([], [])


async def test_code_that_does_not_compile_is_said_to_be_none(box: Box) -> None:
    kept = await box.run(await prepared(FAULTY["c"][0], "c"))

    assert (kept.stdout, kept.report.phase) == (b"", "compile")
    assert FAULTY["c"][1] in kept.stderr.decode()
    with pytest.raises(errors.NotFound):
        await read(box, "artifact", "spool")


async def test_what_one_box_has_compiled_runs_in_another(backend: Backend, tmp_path: Path) -> None:
    order = await prepared(GOOD["c"], "c")
    language = (await Languages.discover(Reach(), 512 << 20)).find("c")
    builds = Builds(tmp_path / "builds", 1 << 30)
    cpu_s = []
    for _ in range(2):
        box = await backend.take("lean", "tenant")
        kept = await builds.run(box, language, order, tenant="tenant", files={}, stdin=b"said\n")
        cpu_s.append(kept.report.cpu_s)
        assert (kept.stdout, kept.report.exit_code) == (b"one|two words said\n", 3)
        await box.close()

    assert cpu_s[1] < cpu_s[0]
