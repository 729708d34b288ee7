"""How boxes behave towards everything else on the machine."""

import pytest

from tests.contract.sandbox.backends.orders import run, shell
from trainyard.sandbox.backends.base import Box

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_code_yields_to_its_runner(box: Box) -> None:
    code = "import os\nprint(os.getpriority(os.PRIO_PROCESS, 0) - os.getpriority(os.PRIO_PROCESS, os.getppid()))"

    assert int((await run(box, code)).stdout) == 5


async def test_programs_yield_too(box: Box) -> None:
    ours = int((await run(box, "import os\nprint(os.getpriority(os.PRIO_PROCESS, os.getppid()))")).stdout)

    assert int((await shell(box, "sleep 0.2; nice")).stdout) == ours + 5
