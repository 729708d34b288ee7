"""What a box can run, asked from within: the source of this file is code for it, and imports nothing of ours.

It takes one argument, JSON: `directories` and `programs` to look for in them, `files` as patterns of paths, and
`versions`, the arguments with which a program tells its version. It prints JSON.
"""

import glob
import json
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

TIMEOUT_S = 20.0
"""What a program may take to tell its version; a JVM on a busy machine needs a second or two."""
MOST_CHARS = 2000
"""Of what it says."""


def main(asked: dict[str, Any]) -> dict[str, Any]:
    """Look for all of it."""
    programs = {name: found for name in asked["programs"] if (found := _find(name, asked["directories"]))}
    with ThreadPoolExecutor(4) as threads:
        told = {
            name: threads.submit(version, programs[name], arguments)
            for name, arguments in asked["versions"].items()
            if name in programs
        }
    return {
        "python": platform.python_version(),
        "programs": programs,
        "files": [pattern for pattern in asked["files"] if glob.glob(pattern)],  # noqa: PTH207 - in any Python
        "versions": {name: one.result() for name, one in told.items()},
    }


def version(program: str, arguments: list[str]) -> tuple[int, str]:
    """Give exit status and words of a program that tells its version; 127 when it does not start or end."""
    environ = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
    try:
        ended = subprocess.run(
            [program, *arguments], capture_output=True, stdin=subprocess.DEVNULL, env=environ, timeout=TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 127, str(error)
    return ended.returncode, (ended.stdout + ended.stderr).decode(errors="replace")[:MOST_CHARS]


def _find(name: str, directories: list[str]) -> str | None:
    for directory in directories:
        path = os.path.join(directory, name)  # noqa: PTH118 - in any Python
        if os.path.isfile(path) and os.access(path, os.X_OK):  # noqa: PTH113
            return os.path.realpath(path)
    return None


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))  # noqa: T201 - its answer
