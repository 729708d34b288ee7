"""The edge of a command: where every error becomes one line and an exit code, and no traceback."""

import sys
from collections.abc import Sequence

import typer

from trainyard.cli import output
from trainyard.cli.root import TRACEBACK, app
from trainyard.core import errors
from trainyard.core.http import dialects
from trainyard.sdk import errors as sdk_errors

INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""

MEANING: dict[type[sdk_errors.TrainyardAPIError], type[errors.TrainyardError]] = {
    sdk_errors.AuthenticationError: errors.Unauthenticated,
    sdk_errors.AuthorizationError: errors.Forbidden,
    sdk_errors.NotFoundError: errors.NotFound,
    sdk_errors.ConflictError: errors.Conflict,
    sdk_errors.ValidationError: errors.InvalidRequest,
    sdk_errors.QuotaError: errors.QuotaExhausted,
    sdk_errors.RateLimitError: errors.LimitReached,
    sdk_errors.ServerError: errors.TrainyardError,
    sdk_errors.ConnectionError: errors.Unavailable,
    sdk_errors.TimeoutError: errors.DeadlineExceeded,
    sdk_errors.TrainyardAPIError: errors.TrainyardError,
}
"""What an error of the client would be called on the server, so that one table gives all exit codes."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Args:
        arguments: Without the program's name; those of the process when left out.
    """
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None, tree: typer.Typer = app) -> int:
    """Run a tree of commands and return the exit code."""
    try:
        code = tree(args=None if arguments is None else list(arguments), prog_name="trainyard", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except typer.TyperException as error:
        return _say(error.format_message(), error.exit_code, hint="; see trainyard --help")
    except KeyboardInterrupt:  # before typer has built its commands, which takes a moment
        return INTERRUPTED
    except typer.Abort:
        return _say("interrupted", INTERRUPTED)
    except errors.TrainyardError as error:
        return _say(error.message, dialects.exit_code(error))
    except sdk_errors.TrainyardAPIError as error:
        return _say(str(error) + _trail(error), dialects.exit_code(meaning(error)()))
    except BrokenPipeError:
        output.silence()
        return 1
    except OSError as error:
        return _say(str(error), dialects.exit_code(errors.StartupError()))
    except Exception as error:  # the edge of a command
        if TRACEBACK in (sys.argv if arguments is None else arguments):
            raise
        return _say(
            f"internal error: {type(error).__name__}: {error} (trainyard --traceback … shows where)",
            dialects.exit_code(errors.TrainyardError()),
        )


def meaning(error: sdk_errors.TrainyardAPIError) -> type[errors.TrainyardError]:
    """Name an error of the client as the server would."""
    if error.code == errors.UnknownModel.code:
        return errors.UnknownModel
    if error.status_code in (502, 503, 504):
        return errors.Unavailable
    return MEANING[type(error)]


def _trail(error: sdk_errors.TrainyardAPIError) -> str:
    if isinstance(error, sdk_errors.ConnectionError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "; set TRAINYARD_CA to its certificate, tls/cert.pem in the data directory of a self-signed server"
    if isinstance(error, sdk_errors.ConnectionError):
        return "; start a server with `trainyard up` or name one with --url"
    facts = [f"code {error.code}"] if error.code else []
    facts += [f"request {error.request_id}"] if error.request_id else []
    return f" ({', '.join(facts)})" if facts else ""


def _say(message: str, code: int, hint: str = "") -> int:
    line = " ".join(message.split())
    print(f"trainyard: {line.rstrip('.') if hint else line}{hint}", file=sys.stderr)
    return code
