"""Reading a request to run code: what is asked is checked here, before anything is done for it."""

import re
from dataclasses import dataclass

from trainyard.core import errors
from trainyard.core.settings import SandboxLimits
from trainyard.sandbox.inside import frames
from trainyard.sandbox.languages import Language, Languages
from trainyard.sandbox.types.domain import Execute
from trainyard.sandbox.types.orders import Flavor, Order

MAX_ARGS_BYTES = 1 << 20
"""Arguments and environment together; half of what Linux lets a program be started with."""

_ENTITY = re.compile(r"[\w.:@-]{1,128}", re.ASCII)
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SCIENCE = re.compile(
    r"^[ \t]*(?:import|from)[ \t]+(?:[\w., \t]*,[ \t]*)?"
    r"(?:numpy|pandas|matplotlib|scipy|sklearn|seaborn|statsmodels)\b",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that can be done.

    Attributes:
        flavor: Of the box that suits it, if it gets a new one.
        bytes_in: Of what came with it.
    """

    request: Execute
    language: Language
    order: Order
    flavor: Flavor
    bytes_in: int


def read(request: Execute, languages: Languages, limits: SandboxLimits, *, stream: bool) -> Asked:
    """Check a request and make the order of it.

    Raises:
        errors.InvalidRequest: Something cannot be as it is asked.
        errors.TooLarge: Code or input are too long.
    """
    language = languages.find(request.language)
    if not request.code.strip():
        raise errors.InvalidRequest("There is no code to run; send some in `code`", code="empty_code", param="code")
    size = _size(request.code)
    _check_size("The code", size, limits.code_bytes, "code")
    _check_size("Standard input", len(request.stdin), frames.MAX_PAYLOAD_BYTES, "stdin")
    _check_surroundings(request)
    most_files = max(limits.files_per_request, limits.files_per_batch)  # a run can use what one request has uploaded
    if len(request.files) > most_files:
        raise errors.InvalidRequest(
            f"{len(request.files)} files are more than the {most_files} of one request",
            code="too_many_files",
            param="files",
        )
    prepared = language.prepare(request.code)
    order = Order(
        code=prepared.code,
        program=prepared.program,
        args=request.args,
        env=request.env,
        timeout_s=_timeout_s(request.timeout_s, limits),
        cpu_s=limits.cpu_s,
        memory_bytes=limits.memory_bytes,
        output_bytes=limits.output_bytes,
        log_bytes=limits.log_bytes,
        stream=stream,
        results=request.results,
    )
    is_science = prepared.program is None and _SCIENCE.search(request.code) is not None
    return Asked(request, language, order, "science" if is_science else "lean", size + len(request.stdin))


def check_entity(entity_id: str | None) -> None:
    """Refuse a name that no session can have.

    Raises:
        errors.InvalidRequest: Code `validation_error`.
    """
    if entity_id is not None and not _ENTITY.fullmatch(entity_id):
        raise errors.InvalidRequest("entity_id is 1 to 128 letters, digits and any of _ - . : @", param="entity_id")


def _size(code: str) -> int:
    try:
        return len(code.encode())
    except UnicodeEncodeError as error:
        raise errors.InvalidRequest("The code has half of a surrogate pair; send Unicode", param="code") from error


def _check_size(what: str, size: int, most: int, param: str) -> None:
    if size > most:
        raise errors.TooLarge(
            f"{what} has {size} bytes, more than the {most} that one run may have; put the rest in a file",
            param=param,
            data={"size_bytes": size, "max_bytes": most},
        )


def _timeout_s(asked: float | None, limits: SandboxLimits) -> float:
    if asked is None:
        return limits.timeout_s
    if not 0 < asked <= limits.max_timeout_s:
        raise errors.InvalidRequest(
            f"timeout is over 0 and at most {limits.max_timeout_s:g} seconds, not {asked:g}", param="timeout"
        )
    return asked


def _check_surroundings(request: Execute) -> None:
    check_entity(request.entity_id)
    for name in request.env:
        if not _ENV_NAME.fullmatch(name):
            raise errors.InvalidRequest(
                f"{name!r} is no name of a variable; write letters, digits and _, no digit first", param="env"
            )
    try:
        raw = "\0".join([*request.args, *request.env.values()]).encode()
    except UnicodeEncodeError as error:
        raise errors.InvalidRequest(
            "Arguments and variables are Unicode, without halves of pairs", param="args"
        ) from error
    number = len(request.args) + len(request.env)
    if raw.count(b"\0") > max(0, number - 1):
        raise errors.InvalidRequest("Arguments and variables cannot have a NUL", param="args")
    total = len(raw) + 1 + sum(map(len, request.env)) + len(request.env)
    if total > MAX_ARGS_BYTES:
        raise errors.TooLarge(
            f"Arguments and variables have {total} bytes of {MAX_ARGS_BYTES}; use `stdin` or a file", param="args"
        )
