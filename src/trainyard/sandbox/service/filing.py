"""Files of sessions: in, out, listed, away."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from trainyard.core import errors
from trainyard.core.db.writer import Write
from trainyard.core.ledger.types import Outcome, Work
from trainyard.core.principal import Principal
from trainyard.sandbox.service import asking, charging, paths
from trainyard.sandbox.service.access import Access
from trainyard.sandbox.service.contents import Contents
from trainyard.sandbox.service.holding import Holding
from trainyard.sandbox.service.outputs import content_type
from trainyard.sandbox.service.parts import Parts, unknown_file
from trainyard.sandbox.service.room import Room, Rooms
from trainyard.sandbox.store import FileRecord, NewFile, Role, SessionRecord
from trainyard.sandbox.store.files import Saved
from trainyard.sandbox.store.sessions import used
from trainyard.sandbox.types.domain import Shelf, StoredFile, Upload

_MODEL = "sandbox/files"
_PLAIN = "application/octet-stream"

_MOST_REFUSED = 1000
"""Files of a batch, behind the last that it may have, that are told of each; a form of more is refused as a whole."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What became of one file of an upload, in the order of the request.

    Attributes:
        path: As it was sent.
        file: None when it was not stored; `error` says why.
    """

    path: str
    file: StoredFile | None
    error: errors.TrainyardError | None = None


class Filing:
    """Files for callers."""

    def __init__(self, parts: Parts, holding: Holding, access: Access, contents: Contents) -> None:
        self._parts = parts
        self._holding = holding
        self._access = access
        self._contents = contents
        self._rooms = Rooms(parts.limits.stored_bytes)

    async def upload(
        self,
        principal: Principal,
        files: AsyncIterator[Upload],
        *,
        session_id: str | None,
        entity_id: str | None,
        shelf: Shelf,
        one_by_one: bool,
        request_id: str | None,
    ) -> tuple[str | None, list[Uploaded]]:
        """See `SandboxService.upload`."""
        asking.check_entity(entity_id)
        _check_shelf(shelf)
        job = charging.job("/upload", _MODEL, request_id)
        async with await self._parts.meter.open(principal, job) as charge:
            session = None
            if session_id is not None:
                session = await self._access.writable(principal, session_id, shelf)
            room = await self._room(principal, session, entity_id, shelf)
            taken: list[NewFile | Uploaded] = []
            try:
                await self._take(files, taken, room, one_by_one=one_by_one)
                fine = [file for file in taken if isinstance(file, NewFile)]
                if session is None and fine:
                    session = await self._session(principal, entity_id, shelf)
                saved = await self._name(session, fine) if session is not None and fine else []
            except BaseException:
                contents = [file.sha256 for file in taken if isinstance(file, NewFile)]
                self._parts.finish(self._undo(contents, room))
                raise
            room.close()
            await charge.settle(
                charging.used(Work(bytes_in=sum(file.size_bytes for file in saved))),
                *([] if session is None else [self._use(session)]),
            )
        shown = {file.path: file.stored(shelf) for file in saved}
        return None if session is None else session.id, [_outcome(file, shown) for file in taken]

    def _use(self, session: SessionRecord) -> Write:
        now = self._parts.clock.now()
        return used(session.id, now, now + self._parts.settings.session_ttl_s)

    async def listed(self, principal: Principal, session_id: str, shelf: Shelf | None) -> list[StoredFile]:
        """See `SandboxService.list_files`."""
        session = await self._access.readable(principal, session_id, shelf)
        found = await self._parts.stored(self._parts.files.of_session, session_id)
        return [file.stored(session.shelf) for file in found if file.role is not Role.PENDING]

    async def opened(
        self, principal: Principal, session_id: str, file_id: str, shelf: Shelf | None
    ) -> tuple[StoredFile, AsyncIterator[bytes]]:
        """See `SandboxService.open_file`."""
        session, file = await self._find(principal, session_id, file_id, shelf)
        return file.stored(session.shelf), self._parts.blobs.open(file.sha256)

    async def send(
        self, principal: Principal, pieces: AsyncIterator[bytes], request_id: str
    ) -> AsyncGenerator[bytes, None]:
        """See `SandboxService.send`."""
        job = charging.job("/download/{session_id}/{file_id}", _MODEL, request_id)
        outcome: Outcome = "failed"
        sent_bytes = 0
        async with await self._parts.meter.open(principal, job) as charge:
            try:
                async for piece in pieces:
                    sent_bytes += len(piece)
                    yield piece
                outcome = "done"
            except (GeneratorExit, asyncio.CancelledError):
                outcome = "cancelled"
                raise
            finally:
                self._parts.metrics.bytes.of("downloaded").inc(sent_bytes)
                if sent_bytes or outcome == "done":
                    await charge.settle(charging.used(Work(bytes_out=sent_bytes), outcome))

    async def delete(self, principal: Principal, session_id: str, file_id: str, shelf: Shelf | None) -> None:
        """See `SandboxService.delete_file`."""
        session = await self._access.writable(principal, session_id, shelf)
        file = await self._parts.stored(self._parts.files.find, session.id, file_id)
        if file is None or file.role is Role.PENDING:
            raise unknown_file()
        saved = await self._change(session, [], [file.path])
        self._parts.finish(self._contents.collect_later(saved.freed))

    # ------------------------------------------------------------------ inside

    async def _take(
        self, files: AsyncIterator[Upload], taken: "list[NewFile | Uploaded]", room: Room, *, one_by_one: bool
    ) -> None:
        """Store the bytes of a request, one file after the other."""
        limits = self._parts.limits
        most = limits.files_per_batch if one_by_one else limits.files_per_request
        async for upload in files:
            if len(taken) >= most:
                error = _too_many(most)
                if not one_by_one or len(taken) >= most + _MOST_REFUSED:
                    raise error
                taken.append(Uploaded(upload.path, None, error))
                continue
            before_bytes = room.taken_bytes
            try:
                others = [file.path for file in taken if isinstance(file, NewFile)]
                taken.append(await self._store(upload, others, room))
            except (errors.InvalidRequest, errors.TooLarge) as fault:
                if not one_by_one:
                    raise
                room.go_back(before_bytes)
                taken.append(Uploaded(upload.path, None, fault))
        if not taken:
            raise errors.InvalidRequest(
                "There is no file in this request; send one as `file`", code="no_files", param="file"
            )

    async def _store(self, upload: Upload, others: Sequence[str], room: Room) -> NewFile:
        path = paths.checked(upload.path)
        paths.check_tree(set(), [*others, path])
        content = room.counted(path, upload.content)
        blob = await self._contents.put(content, self._parts.limits.file_bytes, "uploaded")
        kind = content_type(path) if upload.content_type == _PLAIN else upload.content_type[:255]
        return NewFile(
            path=path,
            sha256=blob.sha256,
            size_bytes=blob.size_bytes,
            role=Role.INPUT,
            content_type=kind,
            is_read_only=upload.is_read_only,
        )

    async def _session(self, principal: Principal, entity_id: str | None, shelf: Shelf) -> SessionRecord:
        if entity_id is not None and shelf.kind == "user":
            return await self._holding.of_entity(principal, entity_id)
        return await self._holding.make(principal, shelf)

    async def _name(self, session: SessionRecord, new: Sequence[NewFile]) -> list[FileRecord]:
        known = await self._parts.stored(self._parts.files.of_session, session.id)
        added = [file.path for file in new]
        paths.check_tree({file.path for file in known if file.role is not Role.LOG} - set(added), added)
        saved = await self._change(session, new, [])
        self._parts.finish(self._contents.collect_later(saved.freed))
        return saved.files

    async def _change(self, session: SessionRecord, new: Sequence[NewFile], gone: Sequence[str]) -> Saved:
        parts = self._parts
        return await self._contents.named(
            lambda: parts.stored(
                parts.files.change, session.id, new, gone, parts.clock.now(), max_bytes=parts.limits.stored_bytes
            ),
            [file.sha256 for file in new],
        )

    async def _room(
        self, principal: Principal, session: SessionRecord | None, entity_id: str | None, shelf: Shelf
    ) -> Room:
        """Find out before the first byte how many may come; refuses a tenant who has no room at all."""
        parts, most = self._parts, self._parts.limits.stored_bytes
        if session is None and entity_id is not None and shelf.kind == "user":
            whose = (principal.tenant, principal.user, entity_id)
            session = await parts.stored(parts.sessions.newest, *whose, parts.clock.now())
        known = [] if session is None else await parts.stored(parts.files.of_session, session.id)
        stored = await parts.stored(parts.collector.stored_bytes, principal.tenant)
        if stored >= most:
            raise errors.QuotaExhausted(
                f"Files and states of this tenant take all of {most} bytes; delete files or sessions",
                code="storage_full",
                data={"stored_bytes": stored, "max_stored_bytes": most},
            )
        return self._rooms.open(principal.tenant, stored, {file.path: file.size_bytes for file in known})

    async def _undo(self, contents: Sequence[str], room: Room) -> None:
        """Remove what was stored; until then it takes room."""
        try:
            await self._contents.collect_later(contents)
        finally:
            room.close()

    async def _find(
        self, principal: Principal, session_id: str, file_id: str, shelf: Shelf | None
    ) -> tuple[SessionRecord, FileRecord]:
        session = await self._parts.sessions.find(session_id)
        if session is None or not self._access.may_read(principal, session, shelf):
            raise unknown_file()
        file = await self._parts.stored(self._parts.files.find, session_id, file_id)
        if file is None or file.role is Role.PENDING:
            raise unknown_file()
        return session, file


def _check_shelf(shelf: Shelf) -> None:
    if shelf.kind != "user" and not shelf.resource_id:
        raise errors.InvalidRequest(f"Files of an {shelf.kind} need its `id`", code="no_resource_id", param="id")


def _too_many(max_files: int) -> errors.TooLarge:
    return errors.TooLarge(
        f"One request may have {max_files} files; send the others in another",
        code="too_many_files",
        param="files",
        data={"max_files": max_files},
    )


def _outcome(taken: NewFile | Uploaded, saved: Mapping[str, StoredFile]) -> Uploaded:
    return taken if isinstance(taken, Uploaded) else Uploaded(taken.path, saved[taken.path])
