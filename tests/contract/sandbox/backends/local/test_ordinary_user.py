"""The tests of this folder as an ordinary user, who has neither root nor control groups."""

import os
import re
from pathlib import Path

import pytest

from tests.services import ordinary

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[4]


FILES = ("test_isolation.py", "test_lifecycle.py", "test_pool.py")


@pytest.mark.timeout(300)
@pytest.mark.skipif(os.getuid() != 0, reason="this is an ordinary user already, and the other tests are his")
def test_boxes_are_isolated_without_root() -> None:
    ended = ordinary.run_tests([str((_HERE / name).relative_to(_ROOT)) for name in FILES], timeout_s=280)

    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-4000:]
    passed = re.search(r"(\d+) passed", ended.stdout)
    assert passed is not None
    assert int(passed[1]) >= 45
