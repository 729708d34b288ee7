"""Jupyter's Kernel Gateway: a fresh kernel per run, and a kernel that lives."""

import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from benchmarks import setup, trees

_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Gateway:
    """A running gateway."""

    http: aiohttp.ClientSession

    async def fresh(self, code: str) -> None:
        """Start a kernel, run code in it, end it."""
        async with self.kernel() as kernel:
            await kernel.run(code)

    @contextlib.asynccontextmanager
    async def kernel(self) -> AsyncIterator["Kernel"]:
        """Start a kernel; ended with the block."""
        async with self.http.post("/api/kernels", json={"name": "python3"}) as answer:
            made = await answer.json()
        path = f"/api/kernels/{made['id']}"
        try:
            async with self.http.ws_connect(f"{path}/channels") as channels:
                yield Kernel(channels)
        finally:
            async with self.http.delete(path):
                pass


@dataclass(frozen=True)
class Kernel:
    """A kernel that lives."""

    channels: aiohttp.ClientWebSocketResponse

    async def run(self, code: str) -> None:
        """Run code and wait for its reply.

        Raises:
            RuntimeError: The code failed.
        """
        sent = uuid.uuid4().hex
        header = {"msg_id": sent, "username": "", "session": sent, "msg_type": "execute_request", "version": "5.3"}
        content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        await self.channels.send_str(json.dumps(message))
        while True:
            told = await self.channels.receive_json()
            if told["msg_type"] == "execute_reply" and told["parent_header"].get("msg_id") == sent:
                break
        if told["content"]["status"] != "ok":
            raise RuntimeError(str(told["content"]))


@contextlib.contextmanager
def server(directory: Path) -> Iterator[int]:
    """Run the gateway on a free port; gives the port."""
    port = trees.free_port()
    environment = setup.environment("jupyter")
    command = [
        str(environment / "bin" / "jupyter-kernelgateway"),
        f"--KernelGatewayApp.ip={_LOOPBACK}",
        f"--KernelGatewayApp.port={port}",
        "--KernelGatewayApp.answer_yes=True",
    ]
    paths = {"PATH": f"{environment / 'bin'}:/usr/bin:/bin", "HOME": str(directory), "JUPYTER_PLATFORM_DIRS": "1"}
    with trees.running(command, port, directory / "jupyter.log", path="/api", env=paths):
        yield port


def client(port: int) -> aiohttp.ClientSession:
    """Open a client session of it."""
    return aiohttp.ClientSession(f"http://{_LOOPBACK}:{port}")
