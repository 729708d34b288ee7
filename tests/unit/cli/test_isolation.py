"""What a layer of isolation means for a server, in the words of the doctor."""

from pathlib import Path

import pytest

from trainyard.cli import isolation, zygotes
from trainyard.cli.machine import Verdict
from trainyard.core.settings import SandboxSettings, Settings
from trainyard.sandbox.backends.base import Layer


@pytest.mark.parametrize(
    ("is_held", "is_required", "allow_weaker", "verdict"),
    [
        (True, True, False, Verdict.OK),
        (True, False, True, Verdict.OK),
        (False, False, False, Verdict.OPTIONAL),
        (False, True, True, Verdict.OPTIONAL),
        (False, True, False, Verdict.FAILED),
    ],
)
def test_only_a_required_layer_keeps_the_server_from_working(
    is_held: bool, is_required: bool, allow_weaker: bool, verdict: Verdict
) -> None:
    fact = isolation.fact(Layer("seccomp", is_held, "needs this", is_required), allow_weaker)

    assert fact.verdict is verdict
    assert (fact.found if is_held else fact.advice).startswith("needs this")


def test_without_a_sandbox_nothing_is_tried_or_started(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, sandbox=SandboxSettings(enabled=False))

    assert list(isolation.facts(settings)) == []
    assert zygotes.specs(settings, tmp_path, lambda name: tmp_path / name) == []


def test_packages_that_are_none_are_named(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, sandbox=SandboxSettings(packages=tmp_path / "nowhere"))

    facts = list(isolation.facts(settings))

    assert [fact.verdict for fact in facts] == [Verdict.FAILED]
    assert "nowhere" in facts[0].found
