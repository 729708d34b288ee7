"""The use cases of the sandbox: running code in sessions, their files, their states."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import Literal, overload

from trainyard.core.principal import Principal
from trainyard.sandbox.backends import base
from trainyard.sandbox.languages import Languages
from trainyard.sandbox.service.access import Access
from trainyard.sandbox.service.boxes import Boxes
from trainyard.sandbox.service.checkpoints import Checkpoints
from trainyard.sandbox.service.collecting import STRAY_S, Collected, Collecting
from trainyard.sandbox.service.contents import Contents
from trainyard.sandbox.service.filing import Filing, Uploaded
from trainyard.sandbox.service.holding import Holding
from trainyard.sandbox.service.inputs import Inputs
from trainyard.sandbox.service.keeping import Keeping
from trainyard.sandbox.service.learning import Learning
from trainyard.sandbox.service.outputs import Outputs
from trainyard.sandbox.service.parts import Parts
from trainyard.sandbox.service.running import OnAdmitted, OnEvent, OnSession, Running
from trainyard.sandbox.service.seeing import Seeing
from trainyard.sandbox.service.stating import Stating
from trainyard.sandbox.types.domain import (
    Cut,
    Execute,
    Executed,
    LanguageInfo,
    SessionInfo,
    Shelf,
    StateInfo,
    StoredFile,
    Upload,
)
from trainyard.sandbox.types.orders import Variable

__all__ = ["Collected", "SandboxService", "Uploaded"]


OWN_SHELF = Shelf()
MOST_LISTED = 1000


class SandboxService:
    """Runs code and keeps what it leaves; every method takes the caller first.

    What is a session of nobody, of somebody else, or over is answered alike: errors.NotFound, code
    `session_not_found` or `file_not_found`.

    Args:
        parts: What the use cases share.
        discover: Finds the languages of this machine; asked once, at the start, where boxes are of this machine.
        drain_s: What live sessions get at the end to be written down.
        collects: Whether this process removes what is over; one of several is enough.
    """

    def __init__(
        self, parts: Parts, discover: Callable[[], Awaitable[Languages]], *, drain_s: float, collects: bool = True
    ) -> None:
        self._parts = parts
        self._discover = discover
        self._drain_s = drain_s
        self._collects = collects
        contents, access = Contents(parts), Access(parts)
        holding, outputs = Holding(parts), Outputs(parts, contents)
        self._holding = holding
        checkpoints = Checkpoints(parts, contents, outputs)
        boxes = Boxes(parts, holding, checkpoints)
        self._keeping = Keeping(parts, holding, boxes, checkpoints)
        self._running = Running(
            parts, holding, boxes, Inputs(parts, holding, access, outputs), outputs, checkpoints, self._keeping.left
        )
        self._filing = Filing(parts, holding, access, contents)
        self._stating = Stating(parts, holding, boxes, checkpoints, contents)
        self._collecting = Collecting(parts, contents)
        self._learning = Learning(parts)
        self._seeing = Seeing(parts, holding, boxes, self._collecting)

    async def start(self) -> None:
        """Make boxes ready and begin what runs in the background; before the first request.

        Raises:
            errors.StartupError: A required layer of isolation is missing.
        """
        if self._parts.backend.is_elsewhere:
            await self._parts.backend.start()
            self._learning.start()
        else:
            self._parts.languages, _ = await asyncio.gather(self._discover(), self._parts.backend.start())
        self._keeping.start()
        if self._collects:
            self._collecting.start()

    async def aclose(self) -> None:
        """Write live sessions down and end every box; after the last request."""
        await self._learning.aclose()
        await self._collecting.aclose()
        await self._keeping.aclose(self._drain_s)
        while self._parts.tasks:
            await asyncio.gather(*self._parts.tasks, return_exceptions=True)
        await self._parts.backend.aclose()

    # ------------------------------------------------------------------ running

    def languages(self) -> list[LanguageInfo]:
        """List the languages that run here."""
        return self._parts.languages.available()

    async def execute(
        self,
        principal: Principal,
        request: Execute,
        on_event: OnEvent | None = None,
        *,
        request_id: str,
        on_admitted: OnAdmitted | None = None,
        on_session: OnSession | None = None,
    ) -> Executed:
        """Run code in a session: that of `session_id`, else the newest of `entity_id`, else a new one.

        A second run of one session waits for the first. Whatever the code does is a result and no error.

        Args:
            principal: Who asks.
            request: What for.
            on_event: Is given the output while it is written.
            request_id: Of the request, for the ledger.
            on_admitted: Is given the headers of limits before the code runs.
            on_session: Is given the session's id before the code runs; a new session is there from then on.

        Raises:
            errors.NotFound: Codes `session_not_found`, `file_not_found`; the latter names the reference.
            errors.InvalidRequest, errors.TooLarge: It cannot be as it is asked.
            errors.Conflict: Code `session_busy`: others used the session all the time.
            errors.LimitReached, errors.QuotaExhausted: As `Meter.open`.
            errors.Unavailable: There is no box to be had, or database or blobs are away.
        """
        return await self._running.execute(principal, request, on_event, request_id, on_admitted, on_session)

    async def held_by(
        self, session_id: str | None, principal: Principal | None = None, entity_id: str | None = None
    ) -> str | None:
        """Name the other process of this machine that has a session live; None where there is none.

        Args:
            session_id: Of the session, whoever owns it.
            principal: The owner of `entity_id`, which counts where there is no id.
            entity_id: His name for the session.
        """
        named = None if principal is None or entity_id is None else (principal, entity_id)
        return await self._holding.held_by(session_id, named)

    async def interrupt(self, principal: Principal, session_id: str) -> bool:
        """Send SIGINT to what runs in a session; its variables stay. False where nothing runs.

        Raises:
            errors.Unavailable: Code `session_not_answered`: the process that has it was asked, and is slow to answer.
        """
        return await self._seeing.interrupt(principal, session_id)

    # ------------------------------------------------------------------ files

    @overload
    async def upload(
        self,
        principal: Principal,
        files: AsyncIterator[Upload],
        *,
        session_id: str | None = None,
        entity_id: str | None = None,
        shelf: Shelf = OWN_SHELF,
        one_by_one: Literal[False] = False,
        request_id: str | None = None,
    ) -> tuple[str, list[Uploaded]]: ...

    @overload
    async def upload(
        self,
        principal: Principal,
        files: AsyncIterator[Upload],
        *,
        session_id: str | None = None,
        entity_id: str | None = None,
        shelf: Shelf = OWN_SHELF,
        one_by_one: bool,
        request_id: str | None = None,
    ) -> tuple[str | None, list[Uploaded]]: ...

    async def upload(
        self,
        principal: Principal,
        files: AsyncIterator[Upload],
        *,
        session_id: str | None = None,
        entity_id: str | None = None,
        shelf: Shelf = OWN_SHELF,
        one_by_one: bool = False,
        request_id: str | None = None,
    ) -> tuple[str | None, list[Uploaded]]:
        """Store files in a session, their bytes streamed; a file of the same path is replaced and keeps its id.

        Args:
            principal: Who asks, and owns them then.
            files: Each is read to its end before the next.
            session_id: Where to; None = as `execute` chooses.
            entity_id: The caller's name for a session.
            shelf: Whose they are.
            one_by_one: A file that cannot be stored does not keep the others from it; else it is all of them or none.
            request_id: Of the request, for the ledger.

        Returns:
            The session, None where not one of the files could be stored and none was named; what became of each file.

        Raises:
            errors.InvalidRequest: A name is none, or comes twice, or there is no file.
            errors.TooLarge: Codes `file_too_large`, `too_many_files`.
            errors.QuotaExhausted: Code `storage_full`.
            errors.NotFound: Code `session_not_found`.
        """
        return await self._filing.upload(
            principal,
            files,
            session_id=session_id,
            entity_id=entity_id,
            shelf=shelf,
            one_by_one=one_by_one,
            request_id=request_id,
        )

    async def list_files(self, principal: Principal, session_id: str, shelf: Shelf | None = None) -> list[StoredFile]:
        """List the files of a session, oldest first."""
        return await self._filing.listed(principal, session_id, shelf)

    async def open_file(
        self, principal: Principal, session_id: str, file_id: str, shelf: Shelf | None = None
    ) -> tuple[StoredFile, AsyncIterator[bytes]]:
        """Find a file and stream it; errors.NotFound has the code `file_not_found` whatever is missing."""
        return await self._filing.opened(principal, session_id, file_id, shelf)

    def send(
        self, principal: Principal, pieces: AsyncIterator[bytes], *, request_id: str
    ) -> AsyncGenerator[bytes, None]:
        """Pass on what a caller downloads, and charge him with it: a request, and the bytes that were drawn.

        The request is let in before the first piece. The entry follows the last one, or `aclose`, which whoever does
        not draw all of it has to call; where nothing was drawn before a fault there is none.

        Args:
            principal: Who asks.
            pieces: Of a file of `open_file`, or of a part of it.
            request_id: Of the request, for the ledger.

        Raises:
            errors.LimitReached, errors.QuotaExhausted: As `Meter.open`.
        """
        return self._filing.send(principal, pieces, request_id)

    async def delete_file(
        self, principal: Principal, session_id: str, file_id: str, shelf: Shelf | None = None
    ) -> None:
        """Remove a file; only its owner may, and the next run does not find it in the workspace."""
        await self._filing.delete(principal, session_id, file_id, shelf)

    # ------------------------------------------------------------------ states

    async def state_info(self, principal: Principal, session_id: str) -> StateInfo:
        """Tell what is known of the variables of a session."""
        return await self._stating.info(principal, session_id)

    async def read_state(
        self,
        principal: Principal,
        session_id: str,
        *,
        knows: Callable[[str], bool] = lambda _: False,
        request_id: str | None = None,
    ) -> tuple[StateInfo, AsyncIterator[bytes]]:
        """Stream the newest checkpoint, written now if the interpreter has more, in whichever process that is.

        Args:
            principal: Who asks.
            session_id: Of the session.
            knows: Whether the caller has the state of a SHA-256, so that nothing of it is sent or counted.
            request_id: Of the request, for the ledger.

        Raises:
            errors.NotFound: Codes `session_not_found`, `state_not_found`.
            errors.Conflict: Code `session_busy`.
            errors.LimitReached, errors.QuotaExhausted: As `Meter.open`.
        """
        return await self._stating.read(principal, session_id, knows, request_id)

    async def write_state(
        self, principal: Principal, session_id: str, content: AsyncIterator[bytes], *, request_id: str | None = None
    ) -> StateInfo:
        """Put a state in place of a session's; the next run begins with it.

        Raises:
            errors.LimitReached, errors.QuotaExhausted: As `Meter.open`.
            errors.InvalidRequest: These bytes are no state (code `invalid_state`); nothing of them is unpickled here.
            errors.TooLarge: Code `state_too_large`.
        """
        return await self._stating.write(principal, session_id, content, request_id)

    async def delete_state(self, principal: Principal, session_id: str) -> None:
        """Forget the variables of a session, live ones too; its files stay."""
        await self._stating.delete(principal, session_id)

    async def variables(
        self, principal: Principal, session_id: str, *, request_id: str | None = None
    ) -> list[Variable]:
        """List what code has defined in a session; brings it back first where it is not live, which counts as a run.

        Raises:
            errors.LimitReached, errors.QuotaExhausted: As `Meter.open`.
        """
        return await self._stating.variables(principal, session_id, request_id)

    async def reset(self, principal: Principal, session_id: str) -> None:
        """Give a session a new interpreter and no state; its files stay."""
        await self._stating.delete(principal, session_id)

    # ------------------------------------------------------------------ sessions

    async def list_sessions(
        self, principal: Principal, *, everyone: bool = False, most: int = MOST_LISTED
    ) -> Cut[SessionInfo]:
        """List the caller's sessions, live ones before the others, last used first.

        Args:
            principal: Who asks.
            everyone: All of the tenant, for administrators.
            most: How many; `has_more` of the list tells of others.

        Raises:
            errors.Forbidden: `everyone` without the scope `admin`.
        """
        return await self._seeing.sessions(principal, everyone=everyone, most=most)

    async def show_session(self, principal: Principal, session_id: str) -> SessionInfo:
        """Tell what a session holds and whether it is live."""
        return await self._seeing.session(principal, session_id)

    async def kill_session(self, principal: Principal, session_id: str) -> bool:
        """End the box of a session, what runs in it too; files and the newest checkpoint stay. False without a box.

        An administrator may for every user of his tenant.

        Raises:
            errors.Unavailable: As `interrupt`.
        """
        return await self._seeing.kill(principal, session_id)

    async def delete_session(self, principal: Principal, session_id: str) -> None:
        """Remove a session with its files and its state; what runs in it is ended first."""
        await self._seeing.delete(principal, session_id)

    def boxes(self) -> Sequence[base.Running]:
        """List the boxes of this process, warm ones included."""
        return self._parts.backend.running()

    async def gc(self, *, stray_s: float = STRAY_S) -> Collected:
        """Remove expired sessions, and contents that nothing names and that are as old as `stray_s`."""
        return await self._collecting.collect(stray_s=stray_s)
