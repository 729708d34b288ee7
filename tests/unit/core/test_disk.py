"""What a full disk looks like to a caller."""

import errno
import os

import pytest

from trainyard.core import disk


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_without_room_is_told_as_something_that_passes(number: int) -> None:
    cause = OSError(number, os.strerror(number), "somewhere/secret")
    error = disk.full(cause)
    assert error is not None
    assert (error.code, error.__cause__) == ("disk_full", cause)
    assert error.retry_after_s == 30
    assert "secret" not in error.message


@pytest.mark.parametrize("other", [OSError(errno.EIO, "broken"), OSError("no number"), ValueError("28")])
def test_other_faults_are_not_taken_for_it(other: Exception) -> None:
    assert disk.full(other) is None
