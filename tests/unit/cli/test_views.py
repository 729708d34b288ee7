"""What people see: the training bar, the demo, tables."""

import io

import pytest
from rich.console import Console

from trainyard.cli import demo_view, output
from trainyard.cli.finetune import Outcome, Progress
from trainyard.cli.train_view import TrainView, duration
from trainyard.sdk.results import SavedState

SAVED = SavedState(name="step_4", step=4, local_path="/yard/step_4")


def console(*, is_terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=is_terminal, width=100, color_system=None)


def text_of(shown: Console) -> str:
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue()


def progress(step: int, steps: int = 40) -> Progress:
    return Progress(step, steps, loss=1.25, learning_rate=1e-3, tokens_per_s=1234.5, eta_s=65.0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3600, "1 h 00 min"),
        (7810, "2 h 10 min"),
    ],
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_without_a_terminal_training_prints_about_twenty_lines() -> None:
    shown = console(is_terminal=False)
    with TrainView(shown, steps=40) as view:
        view.evaluated(0, 2.0)
        for step in range(1, 41):
            view.stepped(progress(step))
        view.saved(SAVED)
        view.resumed(3, "it died")
    lines = text_of(shown).splitlines()
    assert len(lines) == 20 + 3
    assert lines[0] == "  step 0: loss on held-out lines 2.000"
    assert lines[1] == "  step 2/40 · loss 1.250 · held out 2.000 · 1,234 tokens/s · 1 min 05 s left"
    assert lines[-2:] == ["  step 4: saved step_4", "  the engine was restarted (it died); going on from step 3"]


def test_on_a_terminal_training_is_a_bar() -> None:
    shown = console(is_terminal=True)
    with TrainView(shown, steps=4, first_step=1) as view:
        view.stepped(progress(2, 4))
        view.evaluated(2, 2.0)
        view.stepped(progress(4, 4))
    text = text_of(shown)
    assert "4/4" in text
    assert "loss 1.250 · held out 2.000 · 1,234 tokens/s · 1 min 05 s left" in text


def test_the_bar_shows_a_validation_that_comes_after_the_last_step() -> None:
    shown = console(is_terminal=True)
    with TrainView(shown, steps=4) as view:
        view.evaluated(0, 3.0)
        view.stepped(progress(4, 4))
        view.evaluated(4, 2.0)
    assert text_of(shown).rpartition("· held out ")[2].startswith("2.000")


def test_a_quiet_view_prints_nothing() -> None:
    shown = console(is_terminal=True)
    with TrainView(shown, steps=4, is_quiet=True) as view:
        view.stepped(progress(4, 4))
        view.saved(SAVED)
    assert text_of(shown) == ""


# (8 - 2) / 8 = 75 %
@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (8.0, 2.0, "8.000 before, 2.000 after: -75% (ok; the goal is -40%)"),
        (8.0, 4.8, "8.000 before, 4.800 after: -40% (ok; the goal is -40%)"),
        (8.0, 6.0, "8.000 before, 6.000 after: -25% (too little; the goal is -40%)"),
        (8.0, 10.0, "8.000 before, 10.000 after: +25% (too little; the goal is -40%)"),
    ],
)
def test_the_verdict_of_the_demo(before: float, after: float, says: str) -> None:
    shown = console(is_terminal=False)
    demo_view.verdict(shown, before, after, 0.40)
    assert says in text_of(shown)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_answers_stand_beside_each_other(is_terminal: bool) -> None:
    shown = console(is_terminal=is_terminal)
    demo_view.answers(shown, ["[who]?"], [""], ["I am\nnew."])
    text = text_of(shown)
    assert [word in text for word in ("[who]?", "(nothing)", "I am new.", "before", "after")] == [True] * 5


def test_the_demo_closes_with_what_was_measured() -> None:
    shown = console(is_terminal=False)
    outcome = Outcome(step=4, validation=[], tokens=3000, train_s=2.0, is_complete=True, saved=SAVED)
    demo_view.heading(shown, "5  What came of it")
    demo_view.closing(shown, outcome, total_s=70.0)
    assert text_of(shown).splitlines() == [
        "",
        "5  What came of it",
        "  adapter, in PEFT's format: /yard/step_4",
        "  training: 3,000 tokens in 2 s, 1,500 a second; all in all 1 min 10 s",
    ]


def test_tables_are_tab_separated_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("A", "B"), [(1, None), ("x", "[b]")])
    assert capsys.readouterr().out == "A\tB\n1\t\nx\t[b]\n"


def test_facts_leave_out_what_is_null_and_spell_out_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    output.facts({"status": "[active]", "gpu": {"requested": None, "applied": False}, "steps": 3, "names": ["a", "b"]})
    assert capsys.readouterr().out.splitlines() == [
        "status       [active]",
        "gpu.applied  no",
        "steps        3",
        "names        a, b",
    ]


def test_what_is_there_to_be_copied_is_one_line_on_a_narrow_terminal() -> None:
    shown = console(is_terminal=True)
    output.plain("a command " * 30, out=shown)
    demo_view.fact(shown, "adapter: /a/path " + "x" * 300)
    assert text_of(shown) == "a command " * 30 + "\n  adapter: /a/path " + "x" * 300 + "\n"


def test_tables_on_a_terminal_are_aligned() -> None:
    shown = console(is_terminal=True)
    output.table(("A", "B"), [("long text", "[b]")], out=shown)
    assert text_of(shown).splitlines()[1].rstrip() == "long text  [b]"


def test_on_a_terminal_what_is_to_be_copied_is_whole_and_empty_columns_are_left_out() -> None:
    shown = console(is_terminal=True)
    columns, key_id = ("ID", "LIMITS", "TEXT"), "key_" + "0" * 26
    output.table(columns, [(key_id, "", "word " * 30), (key_id, None, "")], whole=("ID",), out=shown)
    lines = text_of(shown).splitlines()
    assert "LIMITS" not in lines[0]
    assert [line.split()[0] for line in lines if line.startswith("key_")] == [key_id, key_id]
    full = console(is_terminal=True)
    output.table(columns, [(key_id, "", "")], out=full)
    assert "LIMITS" in text_of(full)
