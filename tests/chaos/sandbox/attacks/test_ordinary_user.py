"""All attacks once more, on boxes of an ordinary user: there is no root, no user id per box, and no control group."""

import os
import re
from pathlib import Path

import pytest

from tests.services import ordinary

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[3]


@pytest.mark.timeout(400)
@pytest.mark.skipif(os.getuid() != 0, reason="this is an ordinary user already, and the other tests are his")
def test_attacks_fail_without_root() -> None:
    files = sorted(path for path in _HERE.glob("test_*.py") if path.name != Path(__file__).name)

    ended = ordinary.run_tests([str(path.relative_to(_ROOT)) for path in files], timeout_s=380)

    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
    passed = re.search(r"(\d+) passed", ended.stdout)
    assert passed is not None
    assert int(passed[1]) >= 400
