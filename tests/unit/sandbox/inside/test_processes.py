"""What /proc says of processes, and how they are ended."""

import os
import signal
import subprocess
import sys
import time

from trainyard.sandbox.inside import processes
from trainyard.sandbox.inside.processes import Meter, Tree


def test_a_process_is_looked_at_until_it_is_gone() -> None:
    child = subprocess.Popen(["sleep", "100"], stdin=subprocess.DEVNULL)
    sample = processes.look(child.pid)
    assert sample is not None
    assert (sample.pid, sample.parent, sample.is_alive, sample.threads) == (child.pid, os.getpid(), True, 1)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    zombie = processes.look(child.pid)
    assert zombie is not None
    assert not zombie.is_alive
    child.wait()
    assert processes.look(child.pid) is None
    assert processes.peak_rss_bytes(child.pid) == 0


def test_a_tree_is_found_frozen_and_ended() -> None:
    child = subprocess.Popen(["bash", "-c", "sleep 100 & sleep 100"], start_new_session=True)
    tree = Tree()
    while len([pid for pid in tree.others(None) if os.getpgid(pid) == child.pid]) < 3:
        time.sleep(0.005)

    family = [pid for pid in tree.pids() if os.getpgid(pid) == child.pid]
    processes.signal_each(family, signal.SIGSTOP)
    assert child.pid not in tree.others(child.pid)
    processes.signal_group(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL


def test_cpu_and_memory_of_children_are_metered() -> None:
    meter = Meter(Tree(), ("/no/such/mount",))
    before_s = meter.measure()[0]
    code = "import time\nx = bytearray(32 << 20)\nwhile time.process_time() < 0.2: pass\nprint(1, flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        cpu_s, memory_bytes, samples = meter.measure()
        peak_bytes = processes.peak_rss_bytes(child.pid)
        child.kill()

    assert cpu_s - before_s >= 0.2
    assert memory_bytes > 32 << 20
    assert 32 << 20 < peak_bytes < 1 << 30
    assert child.pid in {sample.pid for sample in samples}
    assert meter.measure()[0] - before_s >= 0.2
    assert meter.files_bytes() == 0


def test_what_a_process_says_of_its_children_is_believed_within_a_tick_of_each_clock() -> None:
    meter = Meter(Tree(), ())
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', 'import time\\nwhile time.process_time() < 0.1: pass'])\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(used.ru_utime + used.ru_stime, flush=True)\ninput()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        said_s = float(child.stdout.readline())
        sample = processes.look(child.pid)
        assert sample is not None
        measured = {}
        for claim_s in (0.0, said_s, 1e9):
            meter.tell_of_children(child.pid, claim_s)
            measured[claim_s] = meter._reaped_s(sample)
        child.kill()

    assert measured == {0.0: sample.reaped_cpu_s, said_s: said_s, 1e9: sample.reaped_cpu_s + 0.02}
    assert said_s >= 0.1


def test_whether_a_signal_is_ignored_is_seen() -> None:
    code = "import signal\nsignal.signal(signal.SIGUSR1, signal.SIG_IGN)\nprint(1, flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        heard = [processes.is_deaf(child.pid, number) for number in (signal.SIGUSR1, signal.SIGUSR2)]
        child.kill()

    assert heard == [True, False]
    assert not processes.is_deaf(child.pid, signal.SIGUSR1)
