"""The end of a zygote: nobody is left, and nobody is waited for in vain."""

import subprocess
import sys

_ORPHANS = """
import os, time
from trainyard.sandbox.inside import kernel
from trainyard.sandbox.inside.zygote import nursery

kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
reading, writing = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        os.write(writing, str(os.getpid()).encode())
    time.sleep(60)
    os._exit(0)
orphan = int(os.read(reading, 20))
nursery.end_children()
print(os.path.exists(f"/proc/{orphan}"))
"""


def test_those_whom_a_killed_child_leaves_behind_are_ended_too() -> None:
    done = subprocess.run([sys.executable, "-c", _ORPHANS], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "False\n"
