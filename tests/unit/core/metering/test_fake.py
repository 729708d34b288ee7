import pytest

from tests.unit.core.metering.conftest import WHO, job
from trainyard.core.db.writer import Write
from trainyard.core.metering.base import Meter
from trainyard.core.metering.fake import OpenMeter
from trainyard.core.metering.types import Used

USED = Used(prompt_tokens=10, completion_tokens=5)


async def test_it_keeps_what_was_charged() -> None:
    open_meter = OpenMeter()
    meter: Meter = open_meter
    async with await meter.open(WHO, job()) as first:
        assert open_meter.running == open_meter.opened
        write = Write("x", {})
        await first.settle(USED, write)
        await first.settle(Used(prompt_tokens=1, completion_tokens=1))
    (charge,) = open_meter.settled
    assert (charge.principal, charge.job, charge.used, charge.also) == (WHO, job(), USED, (write,))
    assert (charge.is_refunded, first.lines, open_meter.running) == (False, b"", [])


async def test_a_block_that_is_left_refunds() -> None:
    meter = OpenMeter()
    with pytest.raises(RuntimeError):
        async with await meter.open(WHO, job()) as charge:
            raise RuntimeError
    await charge.settle(USED)
    assert (meter.settled, meter.running, meter.opened[0].is_refunded) == ([], [], True)
