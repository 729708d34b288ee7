"""LibreChat as far as it runs code: a Node.js process with the published package, and conversations in it."""

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from tests.integration.sandbox.librechat.generations import Generation
from tests.services import node

_HERE = Path(__file__).parent
_END_TIMEOUT_S = 20.0
_SESSION = re.compile(r"^session_id: (\S+)$", re.MULTILINE)
_VARIABLES = ("LIBRECHAT_CODE_API_KEY", "PROXY", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")


@dataclass(frozen=True)
class Said:
    """What a tool gave back to the model, and to LibreChat."""

    status: str
    content: str
    artifact: dict[str, Any] | None

    @property
    def files(self) -> dict[str, dict[str, Any]]:
        """Files of the artifact by their names."""
        return {file["name"]: file for file in (self.artifact or {}).get("files", [])}


class Chat:
    """One process for a version of the package.

    Attributes:
        generation: Its version.
        number: Of the next order.
    """

    def __init__(self, generation: Generation, process: "subprocess.Popen[str]") -> None:
        self.generation = generation
        self.number = count(1)
        self._process = process

    def ask(self, **order: Any) -> Said:
        """Have one tool called."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": next(self.number), **order}) + "\n")
        self._process.stdin.flush()
        answer = self.read()
        return Said(answer["status"], answer["content"], answer.get("artifact"))

    def read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the driver has ended with {self._process.wait(_END_TIMEOUT_S)}"
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def opened(generation: Generation, url: str, directory: Path) -> Iterator[Chat]:
    """Start the process in an empty directory, with the base URL as LibreChat's operator sets it; end it after."""
    environment = {name: value for name, value in os.environ.items() if name not in _VARIABLES}
    modules = node.agents(generation.version, generation.until)
    command = [node.program(generation.node), _HERE / "driver.cjs", _HERE / generation.driver]
    with (
        (directory / "driver.log").open("wb") as log,
        subprocess.Popen(
            command,
            cwd=directory,
            env={**environment, "NODE_PATH": str(modules), "LIBRECHAT_CODE_BASEURL": url + generation.base},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        chat = Chat(generation, process)
        try:
            assert chat.read() == {"ready": True}
            yield chat
        finally:
            process.kill()


@dataclass
class Conversation:
    """One conversation of a user: what it knows of its earlier calls is what the client keeps.

    Attributes:
        name: Its id.
        params: With which LibreChat makes the tools.
        headers: Of the user's token; None = nothing is sent.
        session_id: Generation A: what the model has read in the last answer, and gives to the next call.
    """

    chat: Chat
    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] | None = None
    session_id: str | None = None

    def run(self, code: str, lang: str = "py", **args: Any) -> Said:
        """Let the model run code."""
        if self.session_id is not None:
            args["session_id"] = self.session_id
        return self._ask("code", {"lang": lang, "code": code, **args})

    def bash(self, command: str, **args: Any) -> Said:
        """Let the model run a command of the shell."""
        return self._ask("bash", {"command": command, **args})

    def prime(self, session_id: str, files: list[dict[str, Any]], code: str) -> Said:
        """Let the model run code after LibreChat has put the user's files into the conversation."""
        args = {"lang": "py", "code": code}
        if not self.chat.generation.has_node:
            return self._ask("code", args, params={**self.params, "files": files})
        return self._ask("code", args, primed={"session_id": session_id, "files": files})

    def _ask(self, tool: str, args: dict[str, Any], **more: Any) -> Said:
        order = {"params": self.params, "headers": self.headers, "conversation": self.name, **more}
        said = self.chat.ask(tool=tool, args=args, **order)
        found = None if self.chat.generation.has_node else _SESSION.search(said.content)
        self.session_id = found[1] if found else self.session_id
        return said
