"""Whether an interpreter is as a new one, so that nothing is lost when it is thrown away.

When in doubt it is not. It counts as used once anything of this holds: a name is defined (an import binds one), a
module was loaded or could have been changed (the code imports, or uses a name that reaches further than the builtins
do), the environment, `sys`, a signal handler, the umask or an open descriptor differ, a thread is left. What is written
to files does not count: files are kept whatever becomes of the interpreter.
"""

import dis
import os
import signal
import sys
import threading
from collections.abc import Iterable
from types import CodeType
from typing import Any

WARNED = "__warningregistry__"
"""A name that Python itself defines where a warning was given."""
_IMPORT = frozenset(dis.opmap[name] for name in ("IMPORT_NAME", "STORE_ATTR", "DELETE_ATTR", "DELETE_GLOBAL"))
_FAR_REACHING = frozenset(
    (
        "eval",
        "exec",
        "compile",
        "globals",
        "locals",
        "vars",
        "setattr",
        "delattr",
        "getattr",
        "breakpoint",
        "memoryview",
    )
)
_SYS = (
    "path",
    "meta_path",
    "path_hooks",
    "excepthook",
    "displayhook",
    "dont_write_bytecode",
    "flags",
    "ps1",
    "warnoptions",
)


class Baseline:
    """How the process was before the first run."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self._namespace = namespace
        self._is_used = False
        self._before = self._look()

    def note(self, source: Iterable[CodeType]) -> None:
        """Take account of code that was executed."""
        if not self._is_used:
            self._is_used = any(map(_reaches_far, source))

    def is_kept(self) -> bool:
        """Whether nothing differs."""
        if not self._is_used:
            self._is_used = self._look() != self._before
        return not self._is_used

    def _look(self) -> tuple[object, ...]:
        umask = os.umask(0o022)
        os.umask(umask)
        return (
            {name: value for name, value in self._namespace.items() if name != WARNED},
            dict(os.environ),
            len(sys.modules),
            sorted(vars(sys.modules["builtins"])),
            [_copied(getattr(sys, name, None)) for name in _SYS],
            sys.gettrace(),
            sys.getprofile(),
            sys.getswitchinterval(),
            signal.getitimer(signal.ITIMER_REAL)[0] > 0,
            [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGUSR1, signal.SIGCHLD)],
            umask,
            sorted(os.listdir("/proc/self/fd")),  # noqa: PTH208 hot
            threading.active_count(),
            len(os.listdir("/proc/self/task")),  # noqa: PTH208 hot
        )


def _copied(value: object) -> object:
    return list(value) if isinstance(value, list) else value


def _reaches_far(code: CodeType) -> bool:
    queue = [code]
    while queue:
        code = queue.pop()
        if any(name in _FAR_REACHING or name.startswith("__") for name in code.co_names):
            return True
        if any(operation in _IMPORT for operation in code.co_code[::2]):
            return True
        queue += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return False
