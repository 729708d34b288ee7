"""Files of weights that the disk refuses."""

import errno
from pathlib import Path

import pytest
import torch

from trainyard.engine import loading


@pytest.mark.parametrize(
    ("place", "number"),
    [
        pytest.param("absent/file", errno.ENOENT, id="no directory"),
        pytest.param("", errno.EISDIR, id="a directory in its place"),
    ],
)
def test_what_the_disk_refuses_is_told_as_the_error_of_the_system(tmp_path: Path, place: str, number: int) -> None:
    with pytest.raises(OSError, match="file" if place else "directory") as caught:
        loading.save_tensors({"weight": torch.zeros(4)}, tmp_path / place, {"format": "pt"})
    assert caught.value.errno == number
