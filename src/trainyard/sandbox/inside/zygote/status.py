"""The status pipe of a box that is being made: lines of JSON from its first processes to who makes it.

`{"pid"}` or bubblewrap's `{"child-pid"}`, `{"ready"}`, `{"failed"}`; its end without `ready` is a failure too, and so
is a line that is no JSON: bubblewrap's complaint.
"""

import contextlib
import json
import os
import sys
from collections.abc import Mapping
from typing import NoReturn


def tell(status: int, **fact: object) -> None:
    """Write one line, unless nobody reads it any more."""
    with contextlib.suppress(OSError):
        os.write(status, json.dumps(fact).encode() + b"\n")


def end(status: int) -> NoReturn:
    """End this process, whatever brought it here, without going back into the code that it was forked from."""
    error = sys.exc_info()[1]
    if error is not None:
        tell(status, failed=f"{type(error).__name__}: {error}")
    os._exit(0 if error is None else 1)


def read(line: bytes) -> Mapping[str, object]:
    """Read one line."""
    try:
        fact = json.loads(line)
    except ValueError:
        return {"failed": line.decode(errors="replace")}
    return fact if isinstance(fact, dict) else {}


def point_standard_streams_nowhere() -> None:
    """Let nothing that the box runs find what its first process was started with."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nowhere, standard)
    os.close(nowhere)
