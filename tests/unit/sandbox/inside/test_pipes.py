"""The pipes of a run, where not all of them are to be had."""

import os
from collections.abc import Callable

import pytest

from trainyard.sandbox.inside.runner_loop import READABLE, Loop
from trainyard.sandbox.inside.runner_pipes import Pipes


class Refusing(Loop):
    """A loop that can watch only so many descriptors."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def watch(self, descriptor: int, handler: Callable[[int], None], events: int = READABLE) -> None:
        self.room -= 1
        if self.room < 0:
            raise OSError(28, "No space left on device")
        super().watch(descriptor, handler, events)


def _open_files() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208 numbers


@pytest.mark.parametrize("room", [0, 1])
def test_pipes_that_cannot_be_watched_leave_nothing_open(room: int) -> None:
    loop = Refusing(room)
    before = _open_files()

    with pytest.raises(OSError, match="No space"):
        Pipes(loop)

    assert _open_files() == before
    loop.close()
