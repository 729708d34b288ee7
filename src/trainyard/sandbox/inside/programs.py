"""Programs of other languages: a fresh directory with the source, and the steps to run in turn."""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trainyard.sandbox.inside import artifacts, processes, workspace

NOT_FOUND = 127
NOT_RUNNABLE = 126


class CannotStart(Exception):
    """A program could not be started.

    Attributes:
        exit_code: What a shell would end with.
    """

    def __init__(self, name: str, error: OSError) -> None:
        super().__init__(f"{name}: {error.strerror}")
        self.exit_code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_RUNNABLE


class Program:
    """The steps of one run.

    Args:
        about: As `types.orders.Program`.
        scratch: Where the fresh directory is made.
        spool: Descriptor of the directory that keeps what is compiled.
    """

    def __init__(self, about: Mapping[str, Any], code: str, args: Sequence[str], scratch: str, spool: int) -> None:
        self._steps: list[Mapping[str, Any]] = list(about["steps"])
        self._args, self._env = list(args), dict(about["env"])
        self._directory = _fresh_directory(scratch)
        self._file = os.path.join(self._directory, about["file"])  # noqa: PTH118 paths inside are text
        with open(self._file, "w", encoding="utf-8", errors="surrogatepass", newline="") as file:  # noqa: PTH123
            file.write(code)
        self._spool = spool
        self._artifact = os.path.join(self._directory, about.get("artifact") or "")  # noqa: PTH118 as above
        self._has_artifact = bool(about.get("artifact"))
        if about.get("is_built"):
            artifacts.take(spool, self._artifact)
            self._steps = [step for step in self._steps if step["phase"] == "run"]
        else:
            artifacts.forget(spool)
        self._is_compiling = False

    @property
    def has_more(self) -> bool:
        """Whether a step is left."""
        return bool(self._steps)

    @property
    def next_phase(self) -> str:
        """Phase of the step that comes next."""
        phase: str = self._steps[0]["phase"]
        return phase

    def start_next(
        self, cwd: str, env: Mapping[str, str], descriptors: Sequence[int], on_child: Callable[[], None]
    ) -> "subprocess.Popen[bytes]":
        """Start the next step.

        Args:
            cwd: Where it starts.
            env: Its environment, beside what the program adds.
            descriptors: Its standard input, output and error.
            on_child: Called in the new process before the program begins.

        Raises:
            CannotStart: There is no such program, or it cannot be run.
        """
        step = self._steps.pop(0)
        if step["phase"] == "run" and self._is_compiling and self._has_artifact:
            artifacts.keep(self._artifact, self._spool)
        self._is_compiling = step["phase"] == "compile"
        argv = [word for part in step["argv"] for word in self._words(part)]
        stdin = descriptors[0] if step["phase"] == "run" else subprocess.DEVNULL
        try:
            started = subprocess.Popen(
                argv,
                cwd=cwd,
                env={**env, **self._env},
                stdin=stdin,
                stdout=descriptors[1],
                stderr=descriptors[2],
                start_new_session=True,
                preexec_fn=on_child,  # safe: the runner has one thread
            )
        except OSError as error:
            raise CannotStart(argv[0], error) from error
        with contextlib.suppress(ProcessLookupError):  # it has ended
            processes.give_way(started.pid)
        return started

    def _words(self, part: str) -> list[str]:
        if part == "{args}":
            return self._args
        return [part.replace("{file}", self._file).replace("{dir}", self._directory)]

    def remove(self) -> None:
        """Remove the directory and all that the steps have made in it; what they have put in its place stays there."""
        with contextlib.suppress(OSError):
            workspace.remove_tree(self._directory)


def _fresh_directory(scratch: str) -> str:
    """Make a directory, also where code has locked the one above it."""
    try:
        return tempfile.mkdtemp(prefix="run-", dir=scratch)
    except PermissionError:
        os.chmod(scratch, 0o1777)  # noqa: PTH101, S103 paths inside are text, and this is /tmp of the box
        return tempfile.mkdtemp(prefix="run-", dir=scratch)
