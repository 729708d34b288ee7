"""What code in a box is made to try, and how it tells what came of it."""

import errno

from tests.contract.sandbox.backends.orders import run
from trainyard.sandbox.backends.base import Box

NO_WAY_OUT = {errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EAFNOSUPPORT, errno.EPERM, errno.EACCES}


async def printed(box: Box, code: str) -> str:
    """What the code prints, when it complains of nothing."""
    kept = await run(box, code)
    assert kept.stderr == b""
    return kept.stdout.decode().strip()


def refusal(code: str, imports: str = "os") -> str:
    """Code that prints the number of the error that a line ends with, or 0."""
    return f"import {imports}\ntry: {code}\nexcept OSError as error: print(error.errno)\nelse: print(0)"
