"""A deadline that costs nothing for work that does not wait."""

import asyncio
import types
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

_Result = TypeVar("_Result")


async def within(timeout_s: float, work: Coroutine[Any, Any, _Result]) -> _Result:
    """Do work in the current task; it is cancelled when it has waited for too long.

    Raises:
        TimeoutError: The time is over.
    """
    steps = work.__await__()
    try:
        waited_for = next(steps)
    except StopIteration as done:
        result: _Result = done.value
        return result
    async with asyncio.timeout(timeout_s):
        return await _rest(steps, waited_for)


@types.coroutine
def _rest(steps: Generator[Any, Any, _Result], waited_for: Any) -> Generator[Any, Any, _Result]:
    """Go on with a coroutine that has begun to wait for something."""
    while True:
        try:
            yield waited_for
        except BaseException as error:  # noqa: BLE001 - it is passed on to the work that waits
            try:
                waited_for = steps.throw(error)
            except StopIteration as done:
                result: _Result = done.value
                return result
        else:
            return (yield from steps)
