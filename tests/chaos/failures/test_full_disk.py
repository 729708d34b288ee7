"""No room in the data directory: refused, not charged, not lost, and well again when there is room."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import trainyard.engine
from tests.chaos.failures import table
from tests.chaos.failures.table import Row
from tests.services.require import missing

ROOT = Path(__file__).parents[3]
POCKET = Path(trainyard.engine.__file__).parent / "pocket"
MOUNT = 'mount -t tmpfs -o size=24m tmpfs "$0"'


@pytest.mark.timeout(120)
@table.shows("disk full while a run is saved", "training")
@table.shows("disk full")
def test_a_full_disk(row: Row, training: Row, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    alone = ["unshare", "--mount", "sh", "-c"]
    if os.geteuid() != 0 or subprocess.run([*alone, MOUNT, disk], check=False, capture_output=True).returncode:
        missing("a mount namespace of its own (root and unshare)", "apt-get install util-linux")
    script = f'{MOUNT} && exec "{sys.executable}" -m tests.chaos.failures.full_disk "$0" "$1"'
    done = subprocess.run([*alone, script, disk, POCKET], check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen == {
        "whole": [row.statuses[0], row.codes[0], None],
        "stream": [row.codes[0], None, False],
        "healthz": 200,
        "save_state": f"{training.statuses[0]} {training.codes[0]}",
        "open_run": f"{row.statuses[0]} database_unavailable",
        "optim_step": f"{row.statuses[0]} database_unavailable",  # made, but its metrics were not written
        "step": 2,
        "open reservations": 0,
        "saved": 2,
        "left behind": [],
        "answered": True,
    }
