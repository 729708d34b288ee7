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
@pytest.mark.parametrize("files", ["test_neighbour.py", "test_server.py", "others"])
def test_attacks_fail_without_root(files: str) -> None:
    every = sorted(path.name for path in _HERE.glob("test_*.py") if path.name != Path(__file__).name)
    wanted = [files] if files in every else sorted(set(every) - {"test_neighbour.py", "test_server.py"})

    ended = ordinary.run_tests([str((_HERE / name).relative_to(_ROOT)) for name in wanted], timeout_s=380)

    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
    assert re.search(r"[1-9]\d* passed", ended.stdout)
