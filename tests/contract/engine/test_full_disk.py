"""A full disk stops what needs room on it, and nothing else: a 1 MB tmpfs in a mount namespace of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.contract.engine import tiny_models as tiny
from tests.services.require import missing


def test_training_goes_on_while_no_state_can_be_written_and_nothing_half_stays(tmp_path: Path) -> None:
    disk, model = tmp_path / "disk", tiny.save_random("llama", tmp_path / "model")
    disk.mkdir()
    mount = ["unshare", "--mount", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        missing("a mount namespace of its own (root and unshare)", "apt-get install util-linux")
    script = (
        f'mount -t tmpfs -o size=1m tmpfs "{disk}" && exec "{sys.executable}" -m tests.contract.engine.full_disk "$@"'
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", str(disk), str(model)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    full = os.strerror(28)
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "gradients 0": "done",
        "step 0": "done",
        "write 0": full,
        "files 0": "progress",
        "open 0": full,
        "gradients 1": "done",
        "step 1": "done",
        "write 1": full,
        "files 1": "progress state.safetensors",
        "open 1": full,
        "steps": "2",
    }
