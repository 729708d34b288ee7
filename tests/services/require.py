"""What happens when an outside program is missing: a skip with its reason, or a failure where all must run."""

import os
from typing import NoReturn

import pytest


def missing(what: str, install: str) -> NoReturn:
    """End the test: failed with TRAINYARD_REQUIRE=all, skipped otherwise."""
    reason = f"{what} is not on this machine; install it with: {install}"
    if os.environ.get("TRAINYARD_REQUIRE") == "all":
        pytest.fail(f"{reason} (TRAINYARD_REQUIRE=all)", pytrace=False)
    pytest.skip(reason)
