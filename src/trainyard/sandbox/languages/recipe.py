"""What one language is made of: its names, what it needs, how its code becomes a program."""

from collections.abc import Callable
from dataclasses import dataclass

from trainyard.sandbox.languages.toolchain import Toolchain
from trainyard.sandbox.types.orders import Program, Step

ARTIFACT = "program"
"""Name in `{dir}` of what a compiler makes."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Code that is ready for an `Order`.

    Attributes:
        code: The text to write, which may differ from what was given (PHP gets its opening tag).
        program: None = Python in the live interpreter.
    """

    code: str
    program: Program | None


Prepare = Callable[[Toolchain, str], Prepared]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One language, before anybody has looked whether it is there.

    Attributes:
        code: Its name in requests, as LibreChat writes it.
        needs: Programs by name; the version is that of the first.
        files: Patterns of absolute paths beside them, each of which has to fit something.
        version: Arguments with which the first program tells its version.
        maker: Written before the version where that is not the language's own.
        package: What has it, for people who miss it.
    """

    code: str
    name: str
    aliases: tuple[str, ...]
    needs: tuple[str, ...]
    prepare: Prepare
    files: tuple[str, ...] = ()
    version: tuple[str, ...] = ("--version",)
    maker: str = ""
    package: str


def interpreted(file: str, *command: str) -> Program:
    """Run code by a program that reads it."""
    return Program(file=file, steps=(Step(phase="run", argv=(*command, "{file}", "{args}")),))


def compiled(file: str, *command: str) -> Program:
    """Run code by a compiler that writes `{dir}/program`.

    Warnings are to be off in `command`: the answer is then the same when the compiler is not asked a second time.
    """
    return Program(
        file=file,
        steps=(
            Step(phase="compile", argv=command),
            Step(phase="run", argv=("{dir}/" + ARTIFACT, "{args}")),
        ),
        artifact=ARTIFACT,
    )
