"""`trainyard doctor`: what this machine can do and what to install for the rest."""

import dataclasses

import typer
from rich.markup import escape

from trainyard.cli import isolation, languages, machine, options, output
from trainyard.core import settings

_MARKS = {
    machine.Verdict.OK: "[green]ok[/]",
    machine.Verdict.OPTIONAL: "[dim]--[/]",
    machine.Verdict.FAILED: "[red]no[/]",
}


def doctor(
    data_dir: options.DataDir = None, config_file: options.ConfigFile = None, as_json: options.AsJson = False
) -> None:
    """Look at this machine: what works, what is missing, what to install; exit code 9 when a server cannot work."""
    effective = settings.load({"data_dir": data_dir}, config_file)
    facts = [*machine.examine(effective), *isolation.facts(effective), *languages.facts(effective)]
    if as_json:
        output.json_line([dataclasses.asdict(fact) for fact in facts])
    else:
        width = max(len(fact.name) for fact in facts)
        for fact in facts:
            _print(fact, width)
    if any(fact.verdict is machine.Verdict.FAILED for fact in facts):
        raise typer.Exit(9)


def _print(fact: machine.Fact, width: int) -> None:
    advice = f"  [dim]{escape(fact.advice)}[/]" if fact.advice else ""
    output.line(f"{_MARKS[fact.verdict]}  [bold]{fact.name.ljust(width)}[/]  {escape(fact.found)}{advice}")
