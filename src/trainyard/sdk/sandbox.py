"""The sandbox of a client: runs of their own, and sessions that keep variables and files."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Unpack

from trainyard.sdk import sandbox_calls
from trainyard.sdk.binding import OwnVerb, Verb
from trainyard.sdk.call import Call, R
from trainyard.sdk.door import AsyncDoor, Door
from trainyard.sdk.results import Result
from trainyard.sdk.sandbox_calls import RunOptions, Source
from trainyard.sdk.sandbox_results import Execution, SandboxEvent, Stored, StoredEach


class _Named:
    """Knows its id from the first answer on."""

    def __init__(self, session_id: str | None, entity_id: str | None) -> None:
        self.session_id = session_id
        self.entity_id = entity_id

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.session_id!r})"

    @property
    def own_id(self) -> str:
        """What its verbs are called with; raises ValueError before the first run or upload."""
        if self.session_id is None:
            raise ValueError("this session begins with its first run or upload")
        return self.session_id

    def _learn(self, answer: Result) -> None:
        self.session_id = answer.get("session_id") or self.session_id


class Session(_Named):
    """A live interpreter with a workspace, blocking.

    Attributes:
        client: Performs the calls.
        session_id: 21 characters; None until the first run or upload has made it.
    """

    def __init__(self, client: Door, session_id: str | None = None, entity_id: str | None = None) -> None:
        super().__init__(session_id, entity_id)
        self.client = client

    def run(self, code: str, **options: Unpack[RunOptions]) -> Execution:
        """Run code where the run before has left off."""
        call = sandbox_calls.run(code, session_id=self.session_id, entity_id=self.entity_id, **options)
        ended = self.client.send(call)
        self._learn(ended)
        return ended

    def stream(self, code: str, **options: Unpack[RunOptions]) -> Iterator[SandboxEvent]:
        """Run code and tell what it writes as it appears; the last event is `done`."""
        call = sandbox_calls.run_stream(code, session_id=self.session_id, entity_id=self.entity_id, **options)
        for event in self.client.stream(call):
            self._learn(event)
            yield event

    def upload(self, *paths: Source, read_only: bool | None = None) -> Stored:
        """Store files in the workspace, all of them, or none.

        Args:
            paths: A file is stored under its last name; `{"data/a.csv": path}` names it, with its folders.
            read_only: Whether runs leave the stored files as they are; false when left out.
        """
        call = sandbox_calls.upload(*paths, session_id=self.session_id, entity_id=self.entity_id, read_only=read_only)
        stored = self.client.send(call)
        self._learn(stored)
        return stored

    def upload_each(self, *paths: Source, read_only: bool | None = None) -> StoredEach:
        """Store files as `upload` does, each by itself; tells what became of every one."""
        call = sandbox_calls.upload_each(
            *paths, session_id=self.session_id, entity_id=self.entity_id, read_only=read_only
        )
        stored = self.client.send(call)
        self._learn(stored)
        return stored

    def download(self, file_id: str, target: Path | str) -> Path:
        """Fetch a file of the session to a path here."""
        return self.client.fetch(sandbox_calls.download_path(self.own_id, file_id), Path(target))

    def export_state(self, target: Path | str) -> Path:
        """Fetch the newest checkpoint of the variables to a path here."""
        return self.client.fetch(sandbox_calls.state_path(self.own_id), Path(target))

    files = OwnVerb(sandbox_calls.list_files, Door.send)
    delete_file = OwnVerb(sandbox_calls.delete_file, Door.send)
    variables = OwnVerb(sandbox_calls.variables, Door.send)
    state = OwnVerb(sandbox_calls.state_info, Door.send)
    import_state = OwnVerb(sandbox_calls.import_state, Door.send)
    delete_state = OwnVerb(sandbox_calls.delete_state, Door.send)
    reset = OwnVerb(sandbox_calls.reset, Door.send)
    interrupt = OwnVerb(sandbox_calls.interrupt, Door.send)
    delete = OwnVerb(sandbox_calls.delete_session, Door.send)


class AsyncSession(_Named):
    """A live interpreter with a workspace, on the event loop; attributes as those of `Session`."""

    def __init__(self, client: AsyncDoor, session_id: str | None = None, entity_id: str | None = None) -> None:
        super().__init__(session_id, entity_id)
        self.client = client

    async def run(self, code: str, **options: Unpack[RunOptions]) -> Execution:
        """Run code as `Session.run` does."""
        call = sandbox_calls.run(code, session_id=self.session_id, entity_id=self.entity_id, **options)
        ended = await self.client.send(call)
        self._learn(ended)
        return ended

    async def stream(self, code: str, **options: Unpack[RunOptions]) -> AsyncIterator[SandboxEvent]:
        """Run code and tell what it writes as `Session.stream` does."""
        call = sandbox_calls.run_stream(code, session_id=self.session_id, entity_id=self.entity_id, **options)
        async for event in self.client.stream(call):
            self._learn(event)
            yield event

    async def upload(self, *paths: Source, read_only: bool | None = None) -> Stored:
        """Store files as `Session.upload` does."""
        call = sandbox_calls.upload(*paths, session_id=self.session_id, entity_id=self.entity_id, read_only=read_only)
        stored = await self.client.send(call)
        self._learn(stored)
        return stored

    async def upload_each(self, *paths: Source, read_only: bool | None = None) -> StoredEach:
        """Store files as `Session.upload_each` does."""
        call = sandbox_calls.upload_each(
            *paths, session_id=self.session_id, entity_id=self.entity_id, read_only=read_only
        )
        stored = await self.client.send(call)
        self._learn(stored)
        return stored

    async def download(self, file_id: str, target: Path | str) -> Path:
        """Fetch a file of the session to a path here."""
        return await self.client.fetch(sandbox_calls.download_path(self.own_id, file_id), Path(target))

    async def export_state(self, target: Path | str) -> Path:
        """Fetch the newest checkpoint of the variables to a path here."""
        return await self.client.fetch(sandbox_calls.state_path(self.own_id), Path(target))

    files = OwnVerb(sandbox_calls.list_files, AsyncDoor.send)
    delete_file = OwnVerb(sandbox_calls.delete_file, AsyncDoor.send)
    variables = OwnVerb(sandbox_calls.variables, AsyncDoor.send)
    state = OwnVerb(sandbox_calls.state_info, AsyncDoor.send)
    import_state = OwnVerb(sandbox_calls.import_state, AsyncDoor.send)
    delete_state = OwnVerb(sandbox_calls.delete_state, AsyncDoor.send)
    reset = OwnVerb(sandbox_calls.reset, AsyncDoor.send)
    interrupt = OwnVerb(sandbox_calls.interrupt, AsyncDoor.send)
    delete = OwnVerb(sandbox_calls.delete_session, AsyncDoor.send)


class Sandbox:
    """The sandbox behind a client, blocking: `client.sandbox`."""

    def __init__(self, client: Door) -> None:
        """Stand for it.

        Args:
            client: Performs the calls.
        """
        self._client = client

    def session(self, session_id: str | None = None, *, entity_id: str | None = None) -> Session:
        """Continue a session by its id or by a name of your choosing, or begin one; nothing is sent yet."""
        return Session(self._client, session_id, entity_id)

    def _send(self, call: Call[R]) -> R:
        return self._client.send(call)

    run = Verb(sandbox_calls.run, _send)
    upload = Verb(sandbox_calls.upload, _send)
    upload_each = Verb(sandbox_calls.upload_each, _send)
    languages = Verb(sandbox_calls.languages, _send)
    sessions = Verb(sandbox_calls.list_sessions, _send)

    inventory = Verb(sandbox_calls.inventory, _send)
    kill = Verb(sandbox_calls.kill, _send)
    collect = Verb(sandbox_calls.collect, _send)


class AsyncSandbox:
    """The sandbox behind a client, awaited."""

    def __init__(self, client: AsyncDoor) -> None:
        """Stand for it.

        Args:
            client: Performs the calls.
        """
        self._client = client

    def session(self, session_id: str | None = None, *, entity_id: str | None = None) -> AsyncSession:
        """Continue or begin a session as `Sandbox.session` does."""
        return AsyncSession(self._client, session_id, entity_id)

    async def _send(self, call: Call[R]) -> R:
        return await self._client.send(call)

    run = Verb(sandbox_calls.run, _send)
    upload = Verb(sandbox_calls.upload, _send)
    upload_each = Verb(sandbox_calls.upload_each, _send)
    languages = Verb(sandbox_calls.languages, _send)
    sessions = Verb(sandbox_calls.list_sessions, _send)

    inventory = Verb(sandbox_calls.inventory, _send)
    kill = Verb(sandbox_calls.kill, _send)
    collect = Verb(sandbox_calls.collect, _send)
