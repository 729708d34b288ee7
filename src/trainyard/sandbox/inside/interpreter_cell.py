"""One run of Python code: compiled under a name of its own, executed, its exception printed as CPython prints it."""

import _signal  # type: ignore[import-not-found]
import contextlib
import linecache
import os
import posix
import signal
import sys
import traceback
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path
from types import CodeType, TracebackType
from typing import Any

from trainyard.sandbox.inside import display

SCRIPT = "main.py"
"""`sys.argv[0]` of a run."""
_CELL = "<cell"
_MAX_SOURCE_BYTES = 32 << 20
"""Of the sources that are kept for tracebacks; the oldest go first."""
_OWN_RECURSION = 1000
# Taken before user code is there: what it deletes or replaces in the modules is not missed here.
_set_handler = _signal.signal
"""`signal.signal` without its enums."""
_SIGINT, _SIG_IGN = int(signal.SIGINT), int(signal.SIG_IGN)
_recursion_limit, _set_recursion_limit = sys.getrecursionlimit, sys.setrecursionlimit
_MOST_LATE = 100
"""SIGINTs that come while the handler of one is taken back; whoever sends more can end the interpreter."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a cell ended.

    Attributes:
        source: What was executed, as code objects.
    """

    exit_code: int
    source: tuple[CodeType, ...] = ()
    results: list[dict[str, Any]] = field(default_factory=list)


class Cells:
    """Runs cells in one namespace, numbered from 1."""

    def __init__(self, namespace: dict[str, Any], workspace: str) -> None:
        self._namespace, self._workspace = namespace, workspace
        self._path = tuple(sys.path)
        self._fixed = tuple(path for path in sys.path if path != workspace)
        self._capture = display.Capture(Path(workspace))
        self._is_asked = True
        self._count = 0
        self._sources: dict[str, int] = {}
        self._on_interrupt: Any = signal.default_int_handler
        self._recursion = _recursion_limit()

    def run(self, order: dict[str, Any]) -> Ended:
        """Execute `order["code"]`; returns whatever it does, short of ending the process."""
        self._count += bool(order["code"])  # a backend warms its boxes up by running nothing
        self._is_asked = order["results"]
        name = f"{_CELL} {self._count}>"
        self._keep_source(name, order["code"])
        restore = self._arrange(order)
        try:
            ended = self._guarded(order, name)
        finally:
            self._calm()
            _restore_environ(restore)
        return ended

    def _keep_source(self, name: str, code: str) -> None:
        """Let tracebacks and `inspect` find the source."""
        lines = [f"{line}\n" for line in code.split("\n")]  # as linecache keeps them: also the last one has its end
        linecache.cache[name] = (len(code), None, lines, name)
        self._sources[name] = len(code)
        while sum(self._sources.values()) > _MAX_SOURCE_BYTES and len(self._sources) > 1:
            oldest = next(iter(self._sources))
            del self._sources[oldest]
            linecache.cache.pop(oldest, None)

    def _arrange(self, order: dict[str, Any]) -> dict[str, str | None]:
        """Set what belongs to this run; gives what the environment had where the run has something else."""
        sys.argv = [SCRIPT, *order["args"]]
        if not isinstance(getattr(sys, "path", None), list):  # code has left none: nothing could be imported
            sys.path = [*self._path]
        posix.chdir(self._workspace)
        before = {name: os.environ.get(name) for name in order["env"]}
        os.environ.update(order["env"])
        return before

    def _forget_listings(self) -> None:
        """Do as `importlib.invalidate_caches`, but for directories that nobody can write to, which are most of them.

        What user code has put there, or has made of it, is left as it is where it cannot be told to forget.
        """
        with contextlib.suppress(Exception):
            known = sys.path_importer_cache
            for path, finder in dict(known).items():
                if finder is None or type(path) is not str or path[:1] != "/":
                    known.pop(path, None)
                elif not path.startswith(self._fixed):
                    _forget(finder)
        with contextlib.suppress(Exception):
            for other in list(sys.meta_path):
                if other is not PathFinder:
                    _forget(other)

    def _guarded(self, order: dict[str, Any], name: str) -> Ended:
        """Run user code with its own handler of SIGINT and its own recursion limit, and print what it raises."""
        code: tuple[CodeType, ...] = ()
        try:
            _set_recursion_limit(self._recursion)
            _set_handler(_SIGINT, self._on_interrupt)
            self._forget_listings()
            body, last = display.compiled(order["code"], name)
            code = tuple(part for part in (body, last) if part is not None)
            results = self._execute(body, last)
            return Ended(exit_code=0, source=code, results=results)
        # The border to user code: whatever it raises, KeyboardInterrupt and SystemExit too, is its result.
        except BaseException as error:  # noqa: BLE001
            self._calm()
            return Ended(exit_code=_complain(error), source=code, results=self._capture.discard())

    def _execute(self, body: CodeType, last: CodeType | None) -> list[dict[str, Any]]:
        exec(body, self._namespace)  # noqa: S102 this is the purpose of the process
        value = eval(last, self._namespace) if last is not None else None  # noqa: S307
        if not self._is_asked:
            return self._capture.discard()[:0]
        return self._capture.results(self._namespace, value, last is not None)

    def _calm(self) -> None:
        """Take back what would hurt the interpreter's own code; the next run has it again."""
        for _ in range(_MOST_LATE):
            with contextlib.suppress(BaseException):  # a SIGINT that came late raises here, in user code's handler
                handler = _set_handler(_SIGINT, _SIG_IGN)
                if handler is not None and handler is not _SIG_IGN:  # None: set by no Python code
                    self._on_interrupt = handler
                break
        limit = _recursion_limit()
        if limit != _OWN_RECURSION:
            self._recursion = limit
        _set_recursion_limit(max(limit, _OWN_RECURSION))


def _forget(finder: object) -> None:
    """Have a finder look anew; one that raises is asked again at the next run."""
    with contextlib.suppress(Exception):
        if (forget := getattr(finder, "invalidate_caches", None)) is not None:
            forget()


def _complain(error: BaseException) -> int:
    """Print an exception, and give the exit code that CPython would end with."""
    try:
        if isinstance(error, SystemExit):
            return _exit_code(error.code)
        error.__traceback__ = _own(error.__traceback__)
        if sys.excepthook is sys.__excepthook__:
            traceback.print_exception(error)
        else:
            sys.excepthook(type(error), error, error.__traceback__)
    except BaseException as second:  # noqa: BLE001 user code replaced the stream or the hook: say it past them
        with contextlib.suppress(OSError):
            posix.write(2, f"{type(error).__name__}, and printing it raised {type(second).__name__}\n".encode())
    return 1


def _exit_code(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    with contextlib.suppress(BaseException):
        print(code, file=sys.stderr)  # noqa: T201 as CPython does
    return 1


def _own(trace: TracebackType | None) -> TracebackType | None:
    """Leave out the frames of these files: what is printed begins in a cell, or has none when it never ran."""
    while trace is not None and not trace.tb_frame.f_code.co_filename.startswith(_CELL):
        trace = trace.tb_next
    return trace


def _restore_environ(before: dict[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
