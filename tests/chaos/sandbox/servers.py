"""Real servers whose code runs on this machine, over either set of stores, and a caller of their sandbox."""

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.chaos.failures import yard
from tests.services.postgres import Postgres
from tests.services.redis import RedisServer
from tests.services.s3 import S3Server
from trainyard.core.processes import runfile
from trainyard.sdk.local_server import LocalServer

SECRET = "the-same-pepper-on-every-host"
_OWN = {
    "SANDBOX__ENABLED": "true",
    "SANDBOX__WARM": "2",
    "SANDBOX__WARM_SCIENCE": "0",
    "SANDBOX__CHECKPOINT_S": "0.1",
    "LIMITS__REQUESTS": "1000000",
    "LIMITS__CONCURRENCY": "1000",
}


@contextmanager
def shared(postgres: Postgres, redis: RedisServer, s3: S3Server) -> Iterator[dict[str, str]]:
    """Give the variables of servers that have Postgres, Redis and S3 in common."""
    url, blobs = postgres.create_database(), s3.settings(s3.create_bucket())
    yield {
        "SECRET": SECRET,
        "DATABASE__URL": url,
        "REDIS__URL": redis.next_url(),
        **{f"BLOBS__{name.upper()}": value for name, value in blobs.items()},
    }
    postgres.drop_database(url)


def server(home: Path, settings: Mapping[str, str]) -> LocalServer:
    """Prepare one with the sandbox and without models."""
    home.mkdir(exist_ok=True)
    catalog = home / "models.yaml"
    catalog.write_text("models: [{name: echo, backend: fake}]")
    environment = {f"TRAINYARD_{name}": value for name, value in {**_OWN, **settings}.items()}
    return LocalServer(home / "data", environment={**environment, "TRAINYARD_MODELS_FILE": str(catalog)})


def all_up(server: LocalServer) -> None:
    """Wait for each of its HTTP processes; one that answers is enough for its readiness."""
    yard.until(lambda: all(one.state == "ready" for one in yard.run_file(server).children if "http" in one.name))


@dataclass(frozen=True)
class Caller:
    """Calls one HTTP process of a server, each over its own socket.

    Attributes:
        key: One caller's, on every server.
    """

    server: LocalServer
    key: str

    @contextmanager
    def process(self, worker: int = 0) -> Iterator[httpx.Client]:
        """Open a connection to one HTTP process."""
        run = runfile.read(self.server.data_dir / "run.json")
        assert run is not None
        way = httpx.HTTPTransport(uds=f"{run.socket_directory}/http-{worker}.sock")
        headers = {"X-API-Key": self.key}
        with httpx.Client(transport=way, base_url="http://worker", headers=headers, timeout=60) as http:
            yield http

    def ask(self, method: str, path: str, *, worker: int = 0, **fields: Any) -> httpx.Response:
        """Send one request, over a connection of its own."""
        with self.process(worker) as http:
            return http.request(method, path, **fields)

    @contextmanager
    def running(self, code: str, session: str) -> Iterator[Iterator[bytes]]:
        """Run code and give the events as they come."""
        body = {"lang": "py", "code": code, "session_id": session, "stream": True}
        with self.process() as http, http.stream("POST", "/exec", json=body) as answer:
            yield answer.iter_raw()

    def run(self, code: str, session: str | None = None, *, worker: int = 0, **fields: Any) -> dict[str, Any]:
        """Run code; the answer has to be 200."""
        body = {"lang": "py", "code": code, **fields} | ({} if session is None else {"session_id": session})
        answer = self.ask("POST", "/exec", worker=worker, json=body)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def durable(self, session: str, *, worker: int = 0) -> None:
        """Wait until the newest state of a session is written down."""
        deadline = time.monotonic() + 30
        while not self.ask("GET", f"/state/{session}/info", worker=worker).json()["is_durable"]:
            assert time.monotonic() < deadline, "it is never written down"
            time.sleep(0.02)


@dataclass(frozen=True)
class Story:
    """What one session was told to hold.

    Attributes:
        file: Id of what its code has written.
    """

    session: str
    number: int
    file: str
    sha256: str


def begin(caller: Caller, number: int, worker: int = 0) -> Story:
    """Have a session hold variables and two files, one uploaded and one written."""
    told = caller.ask("POST", "/upload", worker=worker, files={"file": ("given.txt", f"given {number}".encode())})
    session = told.json()["session_id"]
    code = (
        f"n = {number}\nnames = {{'n': n, 'text': 'ä' * {number}}}\n"
        "def double(x):\n    return 2 * x\n"
        f"with open('own/{number}.bin', 'wb') as file: file.write(bytes(range({number + 1})))\ndel file"
    )
    done = caller.run(f"import os; os.mkdir('own')\n{code}", session, worker=worker)
    caller.durable(session, worker=worker)
    file = next(file for file in done["files"] if file["name"].startswith("own/"))
    assert file["sha256"] == hashlib.sha256(bytes(range(number + 1))).hexdigest()
    return Story(session, number, file["id"], file["sha256"])


def check(caller: Caller, story: Story, worker: int = 0, *, is_new: bool) -> None:
    """Find all of it again, and let the session go on."""
    done = caller.run(
        "import os\nprint(n, names['text'], double(n), open('given.txt').read(), sorted(os.listdir('own')))\nn += 0",
        story.session,
        worker=worker,
    )
    number = story.number
    assert done["stdout"] == f"{number} {'ä' * number} {2 * number} given {number} ['{number}.bin']\n", done
    assert bool(done["restored"]) == is_new
    if is_new:
        assert set(done["restored"]) >= {"n", "names", "double"}
        assert done["lost"] == []
    content = caller.ask("GET", f"/download/{story.session}/{story.file}", worker=worker).content
    assert hashlib.sha256(content).hexdigest() == story.sha256
