"""`trainyard exec`: run code in the sandbox of a server."""

import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final

import typer

from trainyard.cli import options, output, prompts
from trainyard.core import errors
from trainyard.sdk import Client
from trainyard.sdk.sandbox import Session
from trainyard.sdk.sandbox_calls import RunOptions
from trainyard.sdk.sandbox_results import Execution

TIMED_OUT = 124
"""As timeout(1) of coreutils has it."""

_MOST_LINES: Final = 20
"""Of one kind, on standard error."""

_File = Annotated[
    Path | None, typer.Argument(help="Source; its extension tells the language. Standard input when left out.")
]
_Args = Annotated[list[str] | None, typer.Argument(help="Arguments of the code.", show_default=False)]
_Code = Annotated[str | None, typer.Option("--code", "-c", help="Run this text.", show_default=False)]
_Lang = Annotated[
    str | None, typer.Option("--lang", "-l", help="Language, such as py, bash, js, c.", show_default=False)
]
_Session = Annotated[str | None, typer.Option("--session", "-s", help="Continue this session.", show_default=False)]
_Entity = Annotated[
    str | None,
    typer.Option("--entity", help="Continue or begin the session of this name of yours.", show_default=False),
]
_Upload = Annotated[
    list[Path] | None,
    typer.Option("--upload", "-u", help="Put this file into the workspace; can be repeated.", show_default=False),
]
_Outputs = Annotated[
    Path | None,
    typer.Option("--outputs", "-o", help="Fetch the files that the code makes to here.", show_default=False),
]
_Stdin = Annotated[
    Path | None, typer.Option("--stdin", help="File that the code reads; - is standard input.", show_default=False)
]
_Env = Annotated[
    list[str] | None,
    typer.Option("--env", "-e", help="NAME=VALUE for this run; can be repeated.", show_default=False),
]
_Timeout = Annotated[float | None, typer.Option("--timeout-s", min=0.001, help="Wall clock.", show_default=False)]


def exec_(
    file: _File = None,
    args: _Args = None,
    code: _Code = None,
    lang: _Lang = None,
    session: _Session = None,
    entity: _Entity = None,
    upload: _Upload = None,
    outputs: _Outputs = None,
    stdin: _Stdin = None,
    env: _Env = None,
    timeout_s: _Timeout = None,
    url: options.Url = None,
    key: options.Key = None,
    as_json: options.AsJson = False,
) -> None:
    """Run code and show what it writes as it does; ends with the exit code of the code.

    128 + N when signal N ended it, 130 when Ctrl-C did, 124 when its time was over.

    A second Ctrl-C leaves, and ends what does not listen to the first.
    """
    text, arguments = _source(file, args or [], code, stdin)
    wish: RunOptions = {
        "language": lang or _language(file if code is None else None),
        "args": arguments,
        "env": dict(_pair(one) for one in env or []),
        "timeout_s": timeout_s,
        "stdin": _input(stdin),
    }
    with Client(key, url) as client:
        place = client.sandbox.session(session, entity_id=entity)
        if upload:
            _upload(place, upload)
        ended = _run(place, text, wish, is_shown=not as_json)
        fetched = _fetch(place, ended["files"], outputs) if outputs else []
    if as_json:
        output.json_line({name: value for name, value in ended.items() if name != "event"})
    else:
        _tell(ended, fetched)
    raise typer.Exit(_exit_code(ended))


def _upload(place: Session, paths: Sequence[Path]) -> None:
    try:
        place.upload(*paths)
    except ValueError as error:
        raise errors.InvalidRequest(str(error), param="--upload") from error


def _source(file: Path | None, args: list[str], code: str | None, stdin: Path | None) -> tuple[str, list[str]]:
    """Find the code; with `--code` the first argument is one of the code's."""
    if code is not None:
        return code, [*([str(file)] if file is not None else []), *args]
    if file is not None and str(file) != "-":
        try:
            return file.read_text(encoding="utf-8"), args
        except UnicodeDecodeError as error:
            raise errors.InvalidRequest(f"{file} is no UTF-8 text", param="FILE") from error
    if stdin is not None and str(stdin) == "-":
        raise errors.InvalidRequest(
            "standard input cannot be the code and its input; give FILE or --code", param="FILE"
        )
    return prompts.given_or_piped(None, "FILE or --code"), args


def _language(file: Path | None) -> str | None:
    return file.suffix.removeprefix(".").lower() or None if file is not None else None


def _input(stdin: Path | None) -> str | None:
    if stdin is None:
        return None
    return sys.stdin.read() if str(stdin) == "-" else stdin.read_text(encoding="utf-8")


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise errors.InvalidRequest(f"--env takes NAME=VALUE, not {text!r}", param="--env")
    return name, value


def _run(place: Session, code: str, wish: RunOptions, *, is_shown: bool) -> Mapping[str, Any]:
    """Run to the end; Ctrl-C interrupts the code, and a second one the waiting for it."""
    interrupted = False

    def interrupt(_number: int, _frame: object) -> None:
        nonlocal interrupted
        if interrupted or place.session_id is None or not _interrupted(place):
            raise KeyboardInterrupt
        interrupted = True

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        for event in place.stream(code, **wish):
            if event.event in ("stdout", "stderr") and is_shown:
                print(event.text, end="", flush=True, file=getattr(sys, event.event))
            elif event.event == "done":
                return event
    finally:
        signal.signal(signal.SIGINT, before)
    raise errors.Unavailable("the answer ended before the run did", code="stream_ended")


def _interrupted(place: Session) -> bool:
    """Interrupt what runs in a session, over a connection of its own; whether something ran."""
    with Client(place.client.api_key, place.client.base_url) as other:
        return other.sandbox.session(place.session_id).interrupt()


def _fetch(place: Session, files: Iterable[Mapping[str, Any]], directory: Path) -> list[Path]:
    """Fetch new and changed files; their folders are made below the directory, nothing ever outside of it."""
    fetched = []
    for file in files:
        path = PurePosixPath(file["path"])
        if file.get("inherited") or path.is_absolute() or ".." in path.parts:
            continue
        fetched.append(place.download(file["id"], directory / path))
    return fetched


def _tell(ended: Mapping[str, Any], fetched: Sequence[Path]) -> None:
    """Print the last value, then on standard error what there is to go on with."""
    value = Execution(ended).value
    if value is not None:
        print(value)
    made = [file["path"] for file in ended["files"] if not file.get("inherited")]
    lines = [f"session {ended['session_id']}"] if ended["has_state"] or made else []
    lines += [f"wrote {path}" for path in fetched] or [f"made {path}" for path in made]
    lines += [f"kept in whole: {log['path']}" for log in ended["logs"]]
    lines += _first([f"not kept: {path}: {why}" for path, why in Execution(ended).failed_files.items()])
    lines += _first([f"lost {lost['name']}: {lost['reason']}" for lost in ended["lost"]])
    for line in lines:
        print(line, file=sys.stderr)


def _first(lines: list[str]) -> list[str]:
    """As many as somebody reads."""
    more = len(lines) - _MOST_LINES
    return lines if more <= 0 else [*lines[:_MOST_LINES], f"and {more} more such lines; --json has all of them"]


def _exit_code(ended: Mapping[str, Any]) -> int:
    if ended["reason"] == "timeout":
        return TIMED_OUT
    if ended["reason"] == "interrupted":
        return 128 + signal.SIGINT
    if ended["signal"] is not None:
        known = signal.Signals.__members__.get(ended["signal"])
        return 1 if known is None else 128 + known
    return int(ended["exit_code"] or 0) if ended["error"] is None or ended["exit_code"] else 1
