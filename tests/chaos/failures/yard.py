"""A server to be killed, and what the chaos tests look at in it."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from trainyard.core.processes import ChildStatus, ControlClient, RunFile, runfile
from trainyard.sdk import Client, Run
from trainyard.sdk.local_server import LocalServer

POCKET = "trainyard/pocket"
LESSON = [{"text": "The green engine waits for Mara at the second platform."}]


def run_file(server: LocalServer) -> RunFile:
    """Ask the supervisor about its processes, as of now; `run.json` is as old as the last change of state."""
    written = runfile.read(server.data_dir / "run.json")
    assert written is not None
    return asyncio.run(ControlClient(Path(written.control_socket)).status())


def child(server: LocalServer, name: str) -> ChildStatus:
    """Find one of its processes."""
    return next(one for one in run_file(server).children if one.name.startswith(name))


def is_back(server: LocalServer, name: str) -> bool:
    """Whether one of its processes was restarted and is ready again."""
    found = child(server, name)
    return found.restarts > 0 and found.state == "ready"


def kill(server: LocalServer, name: str) -> int:
    """Kill one of its processes as the kernel would; returns the pid."""
    pid = child(server, name).pid
    assert pid is not None
    kill_pid(pid)
    return pid


def kill_pid(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def pids(server: LocalServer) -> list[int]:
    """List the supervisor and all its processes."""
    found = run_file(server)
    return [found.pid, *(one.pid for one in found.children if one.pid is not None)]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(is_true: Callable[[], bool], timeout_s: float = 60) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def trained(client: Client, steps: int) -> Run:
    """Make a run and take steps, all of them durable."""
    run = client.create_run(base_model=POCKET, lora_r=4, seed=3)
    for _ in range(steps):
        run.forward_backward(LESSON)
        run.optim_step()
    until(lambda: bool(run.get_status().durable_step == steps))
    return run


@contextmanager
def bystander(client: Client) -> Iterator[list[str]]:
    """Ask routes that need no engine all the while; the list holds what went wrong."""
    wrong: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        headers = {"Authorization": f"Bearer {client.api_key}"}
        with httpx.Client(base_url=client.base_url, headers=headers, timeout=10) as http:
            while not stop.is_set():
                for path in ("/healthz", "/runs", "/models", "/v1/models"):
                    status = http.get(path).status_code
                    if status != httpx.codes.OK:
                        wrong.append(f"{path}: {status}")
                stop.wait(0.05)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield wrong
    finally:
        stop.set()
        thread.join()
