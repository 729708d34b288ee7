"""The tests of bubblewrap, and those that every backend is held to, as an ordinary user without capabilities."""

import os
import re
from pathlib import Path

import pytest

from tests.services import ordinary

_BACKENDS = Path(__file__).parents[1].relative_to(Path(__file__).parents[5])
_SUITE = [_BACKENDS / name for name in ("test_isolation.py", "test_on_this_machine.py", "test_outputs.py")]


@pytest.mark.timeout(300)
@pytest.mark.skipif(os.getuid() != 0, reason="this is an ordinary user already, and the other tests are his")
@pytest.mark.parametrize(
    ("places", "least"), [([_BACKENDS / "bubblewrap/test_bubblewrap.py"], 10), (_SUITE, 80)], ids=["own", "suite"]
)
def test_bubblewrap_isolates_without_root(places: list[Path], least: int) -> None:
    ended = ordinary.run_tests([*map(str, places), "-k", "bubblewrap", "-p", "no:randomly"], timeout_s=280)

    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-4000:]
    passed = re.search(r"(\d+) passed", ended.stdout)
    assert passed is not None
    assert int(passed[1]) >= least
