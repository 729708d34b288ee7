"""Errors of commands: one line, the right exit code, no traceback."""

import json
import subprocess
import sys

import pytest
import typer

from trainyard.cli import edge
from trainyard.core import errors
from trainyard.sdk import errors as sdk_errors

NOBODY = ["--url", "http://127.0.0.1:9", "--key", "sk-x"]  # port 9 is discard: nobody listens

_BROKEN = """\
import typer
from trainyard.cli import edge
tree = typer.Typer(pretty_exceptions_enable=False)
@tree.command()
def fail(traceback: bool = False) -> None:
    raise RuntimeError("on purpose")
edge.run(None, tree)
"""


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["nope"], 2, "No such command 'nope'; see trainyard --help"),
        (["train"], 2, "Missing option '--data'; see trainyard --help"),
        (["train", "--data", "x.jsonl", "--batch-size", "0"], 2, "--batch-size"),
        (["train", "--data", "no-such-file.jsonl"], 2, "no-such-file.jsonl cannot be read as UTF-8 text"),
        (["models", "list", *NOBODY], 7, "start a server with `trainyard up` or name one with --url"),
        (["keys", "revoke", "key_nope", "--data-dir", "/dev/null/x"], 9, "/dev/null/x cannot be written"),
        (["config", "check", "--config", "no-such.yaml"], 2, "no-such.yaml cannot be read"),
    ],
)
def test_an_error_is_one_line_and_a_code(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, says: str
) -> None:
    assert edge.run(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("trainyard: ")
    assert says in err


# classes as on the server, so that the one table of core/http/dialects gives the code
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (sdk_errors.AuthenticationError("x", 401), errors.Unauthenticated),
        (sdk_errors.AuthorizationError("x", 403), errors.Forbidden),
        (sdk_errors.NotFoundError("x", 404), errors.NotFound),
        (sdk_errors.ConflictError("x", 409), errors.Conflict),
        (sdk_errors.ValidationError("x", 422), errors.InvalidRequest),
        (sdk_errors.RateLimitError("x", 429), errors.LimitReached),
        (sdk_errors.ServerError("x", 500), errors.TrainyardError),
        (sdk_errors.ServerError("x", 503), errors.Unavailable),
        (sdk_errors.ServerError("x", 504), errors.Unavailable),
        (sdk_errors.ConnectionError("x"), errors.Unavailable),
        (sdk_errors.TimeoutError("x"), errors.DeadlineExceeded),
        (sdk_errors.TrainyardAPIError("x", 402), errors.TrainyardError),
        (sdk_errors.NotFoundError("x", 404, code="run_not_found"), errors.NotFound),
        (sdk_errors.NotFoundError("x", 404, code="model_not_found"), errors.UnknownModel),
    ],
)
def test_an_error_of_the_client_means_what_the_server_means(
    error: sdk_errors.TrainyardAPIError, kind: type[errors.TrainyardError]
) -> None:
    assert edge.meaning(error) is kind


def test_help_and_version_exit_0(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--version"], ["--help"], ["train", "--help"]):
        assert edge.run(arguments) == 0
    assert capsys.readouterr().out.startswith("trainyard 0.")


def failing_with(error: BaseException) -> typer.Typer:
    tree = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

    @tree.command()
    def fail() -> None:
        raise error

    return tree


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (RuntimeError("a\nb"), 1, "internal error: RuntimeError: a b (trainyard --traceback … shows where)"),
        (typer.Abort(), 130, "interrupted"),
        (KeyboardInterrupt(), 130, ""),
        (PermissionError(13, "Permission denied", "/x"), 9, "[Errno 13] Permission denied: '/x'"),
        (errors.SchemaTooNew("too new"), 9, "too new"),
        (sdk_errors.ConflictError("held", 409, code="no_gradients", request_id="req_1"), 5,
         "[409] held (code no_gradients, request req_1)"),
    ],
)  # fmt: skip
def test_every_error_has_its_line(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, says: str
) -> None:
    assert edge.run([], failing_with(error)) == code
    assert capsys.readouterr().err == (f"trainyard: {says}\n" if says else "")


class _StillBuilding(typer.Typer):
    """Typer while it makes its commands, before it catches anything."""

    def __call__(self, *args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt


def test_ctrl_c_while_the_commands_are_built_is_no_traceback() -> None:
    assert edge.run([], _StillBuilding()) == 130


def test_the_traceback_can_be_asked_for() -> None:
    shown = subprocess.run([sys.executable, "-c", _BROKEN, "--traceback"], capture_output=True, text=True, check=False)
    assert "RuntimeError: on purpose" in shown.stderr.splitlines()[-1]
    assert "Traceback" in shown.stderr


def test_a_closed_pipe_is_no_error_message() -> None:
    listing = subprocess.Popen(
        [sys.executable, "-m", "trainyard", "config", "check"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert listing.stdout is not None
    listing.stdout.close()
    assert listing.communicate()[1] == b""
    assert listing.returncode == 1


def test_main_exits_with_the_code() -> None:
    with pytest.raises(SystemExit) as caught:
        edge.main(["nope"])
    assert caught.value.code == 2


def test_config_check_prints_values_and_where_they_came_from(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINYARD_SERVER__PORT", "1234")
    monkeypatch.setenv("TRAINYARD_SECRET", "very secret indeed, it is")
    assert edge.run(["config", "check", "--json", "--data-dir", "here"]) == 0
    found = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert found["server.port"] == {"name": "server.port", "value": "1234", "source": "TRAINYARD_SERVER__PORT"}
    assert (found["data_dir"]["value"], found["data_dir"]["source"]) == ("here", "flag")
    assert "very secret" not in str(found)
    assert edge.run(["config", "check"]) == 0
    assert "server.port\t1234\tTRAINYARD_SERVER__PORT" in capsys.readouterr().out
