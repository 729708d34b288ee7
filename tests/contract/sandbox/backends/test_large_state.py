"""The memory that a large state needs, under the default bars."""

from typing import Any

import pytest

from tests.contract.sandbox.backends.orders import put, read, run
from trainyard.core.settings_sandbox import SandboxLimits
from trainyard.sandbox.backends.base import Backend, Box

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("backend", ["bubblewrap", "fake", "local"], indirect=True)
async def test_a_state_of_200_mb_is_written_twice_restored_and_written_again(box: Box, backend: Backend) -> None:
    """Not where pods are boxes: there a state has to find its room in the memory of the session."""
    limits = SandboxLimits()
    code = (
        "import os, pickle\n"
        "class Array:\n"
        "    def __init__(self, data): self.data = data\n"
        "    def __reduce__(self): return Array, (pickle.PickleBuffer(self.data),)\n"
        "text, array = os.urandom(100 << 20), Array(os.urandom(100 << 20))"
    )
    look = "import zlib\nprint(zlib.crc32(text), zlib.crc32(array.data))"
    bars: dict[str, Any] = {"memory_bytes": limits.memory_bytes}

    made = await run(box, code, **bars)
    first = await box.dump(limits.state_bytes)
    seen = await run(box, look, **bars)
    assert (made.report.reason, seen.report.reason, first.dropped) == (None, None, [])
    second = await box.dump(limits.state_bytes)
    content = await read(box, "state", "spool")
    assert (second.dropped, len(content)) == ([], second.size_bytes)
    await box.close()

    other = await backend.take("lean", "tenant")
    try:
        await put(other, "state", content, "spool")
        await other.load()
        await other.delete("spool", "state")
        again = await run(other, look, **bars)
        third = await other.dump(limits.state_bytes)
    finally:
        await other.close()

    assert (again.report.reason, again.stdout) == (None, seen.stdout)
    assert (third.dropped, third.size_bytes) == ([], second.size_bytes)
