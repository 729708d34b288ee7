"""What `trainyard sandbox ps` and the doctor tell of the sandbox."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from trainyard.cli import languages, sandbox_view
from trainyard.cli.machine import Verdict
from trainyard.core.settings import SandboxSettings, Settings
from trainyard.sandbox.languages import Languages, Reach
from trainyard.sdk import results
from trainyard.sdk.sandbox_results import Inventory, OwnedSession

SESSION = "S" * 21
LIVE = OwnedSession(
    session_id=SESSION, user="ada", entity_id="chat [7]", is_live=True, memory_bytes=31 << 20, files=2,
    state_bytes=1536, used_at="2026-01-31T12:00:00.250Z", expires_at="2026-02-01T12:00:00.250Z",
)  # fmt: skip
ASLEEP = OwnedSession(LIVE | {"is_live": False, "memory_bytes": 0, "entity_id": None, "state_bytes": 208})
BOXES = [
    results.Result(id="1", pid=1, flavor="lean", is_taken=True),
    results.Result(id="2", pid=2, flavor="lean", is_taken=False),
    results.Result(id="3", pid=3, flavor="lean", is_taken=False),
    results.Result(id="4", pid=None, flavor="science", is_taken=False),
]


def test_sessions_are_lines_and_the_boxes_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    sandbox_view.inventory(Inventory(sessions=[LIVE, ASLEEP], boxes=BOXES))
    out, err = capsys.readouterr()
    head, live, asleep = (line.split("\t") for line in out.splitlines())
    assert head == ["SESSION", "USER", "ENTITY", "MEMORY", "FILES", "STATE", "USED"]
    assert live == [SESSION, "ada", "chat [7]", "31.0 MiB", "2", "2 KiB", "2026-01-31 12:00:00Z"]
    assert asleep == [SESSION, "ada", "", "not live", "2", "208 B", "2026-01-31 12:00:00Z"]
    assert err == "boxes of the process that answered: 1 taken; kept ready: 2 lean, 1 science\n"


def test_a_list_that_is_cut_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    sandbox_view.inventory(Inventory(sessions=[LIVE, ASLEEP], boxes=BOXES, has_more=True))
    assert capsys.readouterr().err.startswith("there are more sessions than these 2; live ones come first\n")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_nobody_is_told_as_such(is_terminal: bool, capsys: pytest.CaptureFixture[str]) -> None:
    shown = Console(file=io.StringIO(), force_terminal=is_terminal, width=80, color_system=None)
    sandbox_view.inventory(Inventory(sessions=[], boxes=[]), out=shown)
    out, err = capsys.readouterr()
    assert isinstance(shown.file, io.StringIO)
    assert shown.file.getvalue() == ("no sessions\n" if is_terminal else "")
    assert out.count("\n") == (0 if is_terminal else 1)  # programs get the head of the table
    assert err.endswith("0 taken; kept ready: 0 lean, 0 science\n")


def test_a_terminal_of_80_columns_has_room_for_a_session() -> None:
    shown = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    sandbox_view.inventory(Inventory(sessions=[ASLEEP], boxes=[]), out=shown)
    assert isinstance(shown.file, io.StringIO)
    _, line = shown.file.getvalue().splitlines()
    assert line.split() == [SESSION, "ada", "not", "live", "2", "208", "B", "2026-01-31", "12:00:00Z"]


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1 << 20, "1.0 MiB"), (104_857_600, "100.0 MiB")],
)
def test_sizes_are_for_people(size_bytes: int, text: str) -> None:
    assert sandbox_view.size(size_bytes) == text


async def test_the_doctor_names_the_languages_that_run_and_what_the_others_lack() -> None:
    found = await Languages.discover(Reach(directories=()), 1 << 29)  # nothing but Python can be seen
    there, *others = languages.of(found)
    assert (there.name, there.verdict) == ("sandbox: languages", Verdict.OK)
    assert there.found.startswith("py (3.")
    assert len(others) == 12
    bash = next(fact for fact in others if fact.name == "sandbox: bash")
    assert (bash.verdict, bash.found) == (Verdict.OPTIONAL, "does not run here")
    assert bash.advice == "bash is not installed (package: bash)"


def test_the_doctor_looks_for_no_languages_where_the_sandbox_is_off(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, sandbox=SandboxSettings(enabled=False))
    assert list(languages.facts(settings)) == []


def test_packages_that_are_not_there_are_told(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, sandbox=SandboxSettings(packages=tmp_path / "absent"))
    (fact,) = languages.facts(settings)
    assert (fact.verdict, fact.advice) == (Verdict.FAILED, "correct sandbox.packages")
