"""Files of other sessions that a run wants in its workspace: the same contents under names of this session."""

from collections.abc import Sequence

from trainyard.core.principal import Principal
from trainyard.sandbox.service import paths
from trainyard.sandbox.service.access import Access
from trainyard.sandbox.service.holding import Holding
from trainyard.sandbox.service.live import LiveSession
from trainyard.sandbox.service.outputs import Outputs
from trainyard.sandbox.service.parts import Parts, unknown_file
from trainyard.sandbox.store import FileRecord, NewFile, Role
from trainyard.sandbox.types.domain import FileRef


class Inputs:
    """Takes files over."""

    def __init__(self, parts: Parts, holding: Holding, access: Access, outputs: Outputs) -> None:
        self._parts = parts
        self._holding = holding
        self._access = access
        self._outputs = outputs

    async def take_over(self, principal: Principal, live: LiveSession, refs: Sequence[FileRef]) -> None:
        """Make files the session's inputs; the origins stay as they are whatever the code does.

        Raises:
            errors.NotFound: There is no such file, or it is somebody else's; the reference is named.
            errors.InvalidRequest: A name is none.
        """
        new: dict[str, NewFile] = {}
        for ref in refs:
            file = await self._find(principal, live, ref)
            path = paths.checked(ref.name or file.path)
            if self._is_there(live, file, path):
                continue
            new[path] = NewFile(
                path=path,
                sha256=file.sha256,
                size_bytes=file.size_bytes,
                role=Role.INPUT,
                content_type=file.content_type,
                is_read_only=file.is_read_only,
                origin=_origin(file),
            )
        if not new:
            return
        paths.check_tree(set(live.files) - set(new), list(new))
        await self._holding.store(live)
        await self._outputs.change(live, list(new.values()), ())

    async def _find(self, principal: Principal, live: LiveSession, ref: FileRef) -> FileRecord:
        named = f"{ref.name or ref.file_id} (session {ref.session_id}, file {ref.file_id})"
        if ref.session_id == live.id:
            own = next((file for file in live.files.values() if file.id == ref.file_id), None)
            if own is None or own.role is Role.PENDING:
                raise unknown_file(named)
            return own
        session = await self._parts.sessions.find(ref.session_id)
        if session is None or not self._access.may_read(principal, session, ref.shelf):
            raise unknown_file(named)
        found = await self._parts.stored(self._parts.files.find, ref.session_id, ref.file_id)
        if found is None or found.role is Role.PENDING:
            raise unknown_file(named)
        return found

    def _is_there(self, live: LiveSession, file: FileRecord, path: str) -> bool:
        """Whether the session has the file under that name, perhaps edited since: an edit is not undone."""
        known = live.files.get(path)
        if known is None:
            return False
        return known.id == file.id or known.origin == _origin(file)


def _origin(file: FileRecord) -> str:
    return f"{file.id}:{file.sha256}"
