"""Files that runs leave: into the store, and registered once a run has succeeded."""

import asyncio
import mimetypes
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from trainyard.core import errors
from trainyard.core.blobs import Blob
from trainyard.sandbox.backends.base import Box
from trainyard.sandbox.service import paths
from trainyard.sandbox.service.contents import CONTENT_LOST, Contents
from trainyard.sandbox.service.live import LiveSession
from trainyard.sandbox.service.parts import Parts
from trainyard.sandbox.store import FileRecord, NewFile, Role
from trainyard.sandbox.store.files import Saved
from trainyard.sandbox.store.ids import new_id
from trainyard.sandbox.types.orders import Place, Report

_ATTEMPTS = 3
_AT_ONCE = 8
"""Files that are fetched and stored at the same time."""


@dataclass(frozen=True, slots=True)
class Left:
    """What became of the files of a run.

    Attributes:
        failed: Outputs that could not be kept, each with its reason.
    """

    files: Sequence[FileRecord] = ()
    deleted: Sequence[FileRecord] = ()
    failed: Mapping[str, str] = field(default_factory=dict)


class Outputs:
    """Registers what lies in workspaces."""

    def __init__(self, parts: Parts, contents: Contents) -> None:
        self._parts = parts
        self._contents = contents

    async def register(self, live: LiveSession, report: Report, unkept: Mapping[str, str] | None = None) -> Left:
        """Make what a run that succeeded has changed the session's; after one that failed only remember what it was.

        Args:
            live: Where it ran.
            report: Of the run.
            unkept: What of it could not be kept already, each with its reason.
        """
        live.versions = {change.path: (change.size_bytes, change.mtime_ns) for change in report.changed}
        changed = {path for path in live.versions if paths.is_good(path)}
        live.pending = (live.pending | changed) - set(report.deleted)
        live.pending_deleted = (live.pending_deleted | set(report.deleted)) - changed
        self._leave_alone(live)
        failed = dict(unkept or {})
        failed |= {path or why: why for path, _, why in (told.rpartition(": ") for told in report.skipped)}
        if not report.is_success or not (live.pending or live.pending_deleted):
            return Left(failed=failed)
        assert live.box is not None
        chosen, left_out = self._chosen(live)
        failed |= dict.fromkeys(left_out, f"one run registers at most {self._parts.limits.output_files} files")
        gone = [path for path in live.pending_deleted if path in live.files]
        try:
            saved, unkept = await self._keep(live, "data", chosen, Role.OUTPUT, gone)
        except errors.QuotaExhausted as error:  # the next run that succeeds tries again
            return Left(failed=failed | dict.fromkeys(chosen, error.message))
        failed |= unkept
        live.forget_pending()
        await live.box.accept()
        return Left(saved.files, [file for file in saved.deleted if file.role is not Role.PENDING], failed)

    async def keep_logs(self, live: LiveSession, report: Report) -> Left:
        """Keep the whole of outputs of which the answer has but the ends; `failed` names those that could not be."""
        assert live.box is not None
        cut = [name for name, stream in (("stdout", report.stdout), ("stderr", report.stderr)) if stream.is_cut]
        if not cut:
            return Left()
        try:
            saved, unkept = await self._keep(live, "spool", cut, Role.LOG)
        except errors.QuotaExhausted as error:  # head and tail are in the answer
            saved, unkept = Saved(), dict.fromkeys(cut, error.message)
        return Left(saved.files, failed={f"logs/{name}.txt": why for name, why in unkept.items()})

    async def keep_pending(self, live: LiveSession) -> None:
        """Write down what runs that failed have left, before the box goes, unless it is already."""
        chosen, _ = self._chosen(live)
        new = [path for path in chosen if path not in live.files or _needs_storing(live, path)]
        if new:
            await self._keep(live, "data", new, Role.PENDING)
            live.stored_versions |= {path: live.versions.get(path) for path in new if path in live.files}

    # ------------------------------------------------------------------ inside

    def _leave_alone(self, live: LiveSession) -> None:
        """Forget what a run did to files that it may only read; the next one finds them as they are stored."""
        touched = live.pending | live.pending_deleted
        for path in [path for path in touched if path in live.files and live.files[path].is_read_only]:
            live.pending.discard(path)
            live.pending_deleted.discard(path)
            live.placed.pop(path, None)

    def _chosen(self, live: LiveSession) -> tuple[list[str], list[str]]:
        every = sorted(live.pending)
        most = self._parts.limits.output_files
        return every[:most], every[most:]

    async def _keep(
        self, live: LiveSession, place: Place, wanted: Sequence[str], role: Role, given_up: Sequence[str] = ()
    ) -> tuple[Saved, dict[str, str]]:
        """Store files of the box and name them; a content that was removed meanwhile is fetched again.

        What a run that failed had left of them, and the box has not any more, is given up.
        """
        assert live.box is not None
        attempt = 1
        while True:
            found, failed = await self._fetch(live.box, place, wanted)
            new = [self._new(live, path, blob, role) for path, blob in found.items()]
            left = [path for path in wanted if path not in found and _is_pending(live, path)]
            gone = [*given_up, *left] if place == "data" else []
            try:
                return (await self._change(live, new, gone) if new or gone else Saved()), failed
            except errors.Unavailable as error:
                if error.code != CONTENT_LOST or attempt == _ATTEMPTS:
                    raise
            attempt += 1

    async def _fetch(self, box: Box, place: Place, wanted: Sequence[str]) -> tuple[dict[str, Blob], dict[str, str]]:
        """Store files of a box; those that are gone are in neither answer."""
        found: dict[str, Blob] = {}
        failed: dict[str, str] = {}
        turn = asyncio.Semaphore(_AT_ONCE)
        limits = self._parts.limits
        most = limits.file_bytes if place == "data" else limits.log_bytes + 1
        room = _Room(limits.workspace_bytes if place == "data" else 2 * most)

        async def fetch(path: str) -> None:
            async with turn:
                try:
                    found[path] = await self._contents.put(room.filled(box.get(place, path)), most, "produced")
                except (errors.TooLarge, errors.Conflict) as error:
                    failed[path] = error.message
                except errors.NotFound:
                    return

        try:
            async with asyncio.TaskGroup() as group:
                for path in wanted:
                    group.create_task(fetch(path))
        except BaseException as error:
            self._contents.drop({blob.sha256 for blob in found.values()})
            if isinstance(error, BaseExceptionGroup):
                raise error.exceptions[0] from None  # mostly all the same: the box or the store is gone
            raise
        return {path: found[path] for path in wanted if path in found}, failed

    def _new(self, live: LiveSession, path: str, blob: Blob, role: Role) -> NewFile:
        known = live.files.get(path)
        kind = content_type(path) if known is None else known.content_type
        if role is Role.LOG:
            path, kind = f"logs/{new_id()[:8]}-{path}.txt", "text/plain; charset=utf-8"
        return NewFile(
            path=path,
            sha256=blob.sha256,
            size_bytes=blob.size_bytes,
            role=role,
            content_type=kind,
            origin=None if known is None else known.origin,
        )

    async def _change(self, live: LiveSession, new: Sequence[NewFile], gone: Collection[str]) -> Saved:
        saved = await self.change(live, new, gone)
        for file in saved.files:
            if file.role is not Role.LOG:
                live.placed[file.path] = file.sha256
        for file in saved.deleted:
            live.placed.pop(file.path, None)
        return saved

    async def change(self, live: LiveSession, new: Sequence[NewFile], gone: Collection[str]) -> Saved:
        """Change the files of a session that is held here."""
        parts = self._parts
        if not live.is_stored:
            raise AssertionError("a session gets its row before its files")
        saved = await self._contents.named(
            lambda: parts.stored(
                parts.files.change,
                live.id,
                new,
                gone,
                parts.clock.now(),
                max_bytes=parts.limits.stored_bytes,
                hold=live.hold,
            ),
            [file.sha256 for file in new],
        )
        live.revision += 1
        live.files.update((file.path, file) for file in saved.files)
        for file in saved.deleted:
            live.files.pop(file.path, None)
        parts.finish(self._contents.collect_later(saved.freed))
        return saved


class _Room:
    """What all files of one fetch may have together: a file with holes is longer than what it takes in the box.

    Args:
        max_bytes: Of them all.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = self._left_bytes = max_bytes

    async def filled(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Pass pieces on as long as there is room; raises errors.TooLarge (code `too_large_together`) then."""
        async for piece in pieces:
            self._left_bytes -= len(piece)
            if self._left_bytes < 0:
                raise errors.TooLarge(
                    f"the files of one run may have {self._max_bytes} bytes together", code="too_large_together"
                )
            yield piece


def _is_pending(live: LiveSession, path: str) -> bool:
    return path in live.files and live.files[path].role is Role.PENDING


def _needs_storing(live: LiveSession, path: str) -> bool:
    """Whether what a run that failed has left is another by now than what was written down."""
    is_stored = path in live.stored_versions and live.stored_versions[path] == live.versions.get(path)
    return _is_pending(live, path) and not is_stored


def content_type(path: str) -> str:
    """Guess the type of a file by its name."""
    # Behind a slash, since a name such as data:text/html,x would be read as a URL that brings its type along.
    return mimetypes.guess_type(f"/{path}")[0] or "application/octet-stream"
