"""The end of a zygote: nobody is left, and nobody is waited for in vain."""

import subprocess
import sys

from trainyard.sandbox.inside.lockdown.limits import Limits

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


_DISCARDED = """
import os, time
from trainyard.sandbox.inside import kernel
from trainyard.sandbox.inside.lockdown.limits import Limits
from trainyard.sandbox.inside.zygote.nursery import Nursery

def begin(newborn):
    pid = os.fork()
    if pid == 0:
        if os.fork() == 0:
            os.write(writing, str(os.getpid()).encode())
        time.sleep(60)
        os._exit(0)
    return pid

kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
reading, writing = os.pipe()
nursery = Nursery(begin, BARS, None, None, is_attended=True)
discarded, kept = nursery.begin(), nursery.begin()
children = {int(os.read(reading, 20)): None for _ in range(2)}
own = {pid: int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1]) for pid in children}
nursery.discard(discarded)
while len(nursery.boxes) == 2:
    nursery.reap(lambda box: None)
time.sleep(0.2)
nursery.reap(lambda box: None)
print(sorted((parent == discarded.parent, os.path.exists(f"/proc/{pid}")) for pid, parent in own.items()))
nursery.end_all()
"""


def test_a_box_that_is_discarded_before_it_is_born_leaves_nobody_behind_and_takes_nobody_elses_along() -> None:
    code = _DISCARDED.replace("BARS", repr(Limits(1, 1, 1, 1, 1, 1, 1)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "[(False, True), (True, False)]\n"


def test_those_whom_a_killed_child_leaves_behind_are_ended_too() -> None:
    done = subprocess.run([sys.executable, "-c", _ORPHANS], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "False\n"
