"""Running code for a caller."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import structlog
from msgspec import structs

from trainyard.core import errors
from trainyard.core.db.writer import Write
from trainyard.core.ledger.types import Work
from trainyard.core.metering.base import Charge
from trainyard.core.principal import Principal
from trainyard.sandbox.backends.base import Kept
from trainyard.sandbox.service import asking, charging, output
from trainyard.sandbox.service.asking import Asked
from trainyard.sandbox.service.boxes import Boxes
from trainyard.sandbox.service.checkpoints import INTERPRETER_GONE, Checkpoints
from trainyard.sandbox.service.holding import Holding
from trainyard.sandbox.service.inputs import Inputs
from trainyard.sandbox.service.live import LiveSession, Readied
from trainyard.sandbox.service.outputs import Left, Outputs
from trainyard.sandbox.service.parts import Parts
from trainyard.sandbox.store import FileRecord, Role
from trainyard.sandbox.store.sessions import inserted, used
from trainyard.sandbox.types.domain import Execute, Executed, StoredFile
from trainyard.sandbox.types.orders import Reason, Report, Stream

_log = structlog.get_logger("sandbox")

OnEvent = Callable[[Literal["stdout", "stderr"], bytes], None]
OnSession = Callable[[str], None]
"""Is given the session's id once everything is ready and the code is about to run; the id can be used from then on."""

OnAdmitted = Callable[[bytes], None]
"""Is given where the caller stands with his limits, as `head_lines`, once a run is let in."""

ROUTE = "/exec"

_USED_S = 1.0
"""To which the database knows when a session was used: to write it down moves two indexes."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A run with what its box was made ready with, and all that was done after it."""

    readied: Readied
    kept: Kept
    left: Left
    logs: Sequence[FileRecord]


@dataclass(frozen=True, slots=True)
class Told:
    """Who is told what happens during a run."""

    on_event: OnEvent | None
    on_session: OnSession | None


class Running:
    """Runs code in sessions."""

    def __init__(
        self,
        parts: Parts,
        holding: Holding,
        boxes: Boxes,
        inputs: Inputs,
        outputs: Outputs,
        checkpoints: Checkpoints,
        on_left: Callable[[LiveSession], None],
    ) -> None:
        self._parts = parts
        self._holding = holding
        self._boxes = boxes
        self._inputs = inputs
        self._outputs = outputs
        self._checkpoints = checkpoints
        self._on_left = on_left

    async def execute(
        self,
        principal: Principal,
        request: Execute,
        on_event: OnEvent | None,
        request_id: str,
        on_admitted: OnAdmitted | None = None,
        on_session: OnSession | None = None,
    ) -> Executed:
        """See `SandboxService.execute`."""
        asked = asking.read(request, self._parts.languages, self._parts.limits, stream=on_event is not None)
        job = charging.job(ROUTE, f"sandbox/{asked.language.code}", request_id)
        async with await self._parts.meter.open(principal, job) as charge:
            if on_admitted is not None:
                on_admitted(charge.lines)
            return await self._execute(principal, asked, Told(on_event, on_session), charge)

    async def _execute(self, principal: Principal, asked: Asked, told: Told, charge: Charge) -> Executed:
        session_id, entity_id = asked.request.session_id, asked.request.entity_id
        if session_id is None and entity_id is not None:
            session_id = (await self._holding.of_entity(principal, entity_id)).id
        if session_id is None:
            live = self._holding.begin(principal)
            async with self._holding.entered_new(live):
                try:
                    return await self._in_session(principal, live, asked, told, charge)
                except BaseException:
                    self._boxes.abandon(live)  # there is nothing in it that anybody was told of
                    raise
        async with self._holding.entered(principal, session_id) as live:
            if live.record.kind != "user":
                raise errors.Conflict(
                    f"This session keeps the files of an {live.record.kind} and runs nothing; name them in `files`",
                    code="session_runs_nothing",
                    param="session_id",
                )
            return await self._in_session(principal, live, asked, told, charge)

    async def _in_session(
        self, principal: Principal, live: LiveSession, asked: Asked, told: Told, charge: Charge
    ) -> Executed:
        parts, is_continued, spent_s = self._parts, live.is_stored, live.spent_cpu_s
        if asked.request.files:
            await self._inputs.take_over(principal, live, asked.request.files)
        try:
            readied = live.untold = await self._boxes.ready(live, asked.flavor)
            before = dict(live.files)
            ended = await self._ran(live, asked, told, readied, is_continued=is_continued)
        except BaseException as error:
            left = Work(cpu_s=live.spent_cpu_s - spent_s, bytes_in=asked.bytes_in)
            await charging.charge_left(charge, error, left)
            raise
        work = Work(
            cpu_s=live.spent_cpu_s - spent_s,
            bytes_in=asked.bytes_in,
            bytes_out=len(ended.kept.stdout)
            + len(ended.kept.stderr)
            + sum(file.size_bytes for file in ended.left.files),
        )
        await charge.settle(charging.used(work), *self._rows(live))
        live.untold = None
        live.hold = live.hold if live.is_stored or live.box is not None else None
        live.is_stored = True
        live.used_s = parts.clock.monotonic()
        self._on_left(live)
        return self._executed(live, asked, ended, before)

    async def _ran(self, live: LiveSession, asked: Asked, told: Told, readied: Readied, *, is_continued: bool) -> Ended:
        """Run code in a box that is ready; after a run that has no answer, the box is ended."""
        try:
            if told.on_session is not None:
                await self._holding.store(live)  # whoever knows an id may use it, in another process too
                told.on_session(live.id)
            try:
                ended = await self._run(live, asked, told.on_event, readied)
            except errors.Conflict as error:
                if error.code != INTERPRETER_GONE:
                    raise
                await self._checkpoints.give_up(live, error)
                readied = live.untold = await self._boxes.ready(live, asked.flavor)
                ended = await self._run(live, asked, told.on_event, readied)
            await self._decide(live, ended.kept.report, asked, is_continued=is_continued)
        except BaseException:
            self._boxes.end(live, "a run has no answer: its caller left, or it could not be kept")
            raise
        return ended

    async def _run(self, live: LiveSession, asked: Asked, on_event: OnEvent | None, readied: Readied) -> Ended:
        """Run code; raises errors.Conflict (code `interpreter_gone`) where that of the last run has ended."""
        box = live.box
        assert box is not None
        live.is_running, before_s = True, box.spent_cpu_s
        try:
            kept = await self._parts.builds.run(
                box,
                asked.language,
                asked.order if readied.is_new_box else structs.replace(asked.order, continues=True),
                tenant=live.record.tenant,
                files=_known_files(live, readied),
                stdin=asked.request.stdin,
                on_output=on_event,
            )
        except errors.Unavailable as error:
            if box.is_alive:
                raise
            _log.warning("box_ended", session=live.id, box=box.id, reason=error.message)
            self._boxes.end(live, "its box ended in a run")
            kept = _ended_with_its_box(box.spent_cpu_s - before_s)
            self._parts.metrics.end(asked.language.code, kept.report)
            return Ended(readied, kept, Left(), ())
        finally:
            live.is_running = False
        report = kept.report
        self._parts.metrics.end(asked.language.code, report)
        if report.stdout.is_cut or report.stderr.is_cut or report.changed or report.deleted:
            await self._holding.store(live)
        logs = await self._outputs.keep_logs(live, report)
        return Ended(readied, kept, await self._outputs.register(live, report, logs.failed), logs.files)

    async def _decide(self, live: LiveSession, report: Report, asked: Asked, *, is_continued: bool) -> None:
        """Keep the box where there is something in it that costs time to bring back."""
        if live.box is None:
            return
        live.variables = report.variables
        if report.was_reset and report.is_fresh:  # what the last checkpoint has comes back before the next run
            await self._checkpoints.lose(live, f"a run ended its interpreter ({report.cause})")
        elif report.is_fresh:
            await self._checkpoints.forget(live)
        elif asked.order.program is None:
            live.is_dirty = True
        is_empty = report.is_fresh and not live.pending and not live.pending_deleted
        if is_empty and not (is_continued and live.files):
            self._boxes.abandon(live)

    def _rows(self, live: LiveSession) -> tuple[Write, ...]:
        """Make what has to be written of a session that was used; nothing right after the last time.

        Where there is what the last checkpoint has not, the row says so: other processes tell it by the times of both.
        """
        if not live.is_stored:
            return (inserted(self._holding.row(live, is_held=live.box is not None)),)
        now, ttl_s, used_at = self._parts.clock.now(), self._parts.settings.session_ttl_s, live.record.used_at
        saved_at = live.state.created_at if live.is_dirty and live.state is not None else None
        if saved_at is not None and used_at <= saved_at:
            return (used(live.id, max(now, math.nextafter(saved_at, math.inf)), now + ttl_s),)
        if 0 <= now - used_at < min(_USED_S, ttl_s / 100):
            return ()
        return (used(live.id, now, now + ttl_s),)

    def _executed(self, live: LiveSession, asked: Asked, ended: Ended, before: Mapping[str, FileRecord]) -> Executed:
        readied, report, left = ended.readied, ended.kept.report, ended.left
        return Executed(
            session_id=live.id,
            language=asked.language.code,
            stdout=output.shown(ended.kept.stdout, report.stdout),
            stderr=output.shown(ended.kept.stderr, report.stderr),
            stdout_stream=report.stdout,
            stderr_stream=report.stderr,
            exit_code=report.exit_code,
            signal=report.signal,
            reason=report.reason,
            phase=report.phase,
            wall_s=report.wall_s,
            cpu_s=report.cpu_s,
            peak_memory_bytes=report.peak_memory_bytes,
            results=tuple(report.results),
            files=_shown(live, left.files),
            inherited=_shown(live, [file for file in live.files.values() if _is_as_it_was(file, before)]),
            deleted=_shown(live, left.deleted),
            logs=_shown(live, ended.logs),
            failed_files={**dict(readied.unplaced), **left.failed},
            is_new_runtime=readied.is_new_runtime,
            restored=readied.restored,
            lost=readied.lost,
            state=live.state_info(self._parts.clock.now() + self._parts.settings.session_ttl_s),
        )


def _known_files(live: LiveSession, readied: Readied) -> Mapping[str, str] | None:
    """Tell what lies in a box that no code has been in, not even that of a checkpoint; None of any other."""
    return dict(live.placed) if readied.is_new_box and live.state is None else None


def _is_as_it_was(file: FileRecord, before: Mapping[str, FileRecord]) -> bool:
    return file.role is Role.INPUT and file.path in before and before[file.path].sha256 == file.sha256


def _shown(live: LiveSession, files: Sequence[FileRecord]) -> tuple[StoredFile, ...]:
    return tuple(file.stored(live.record.shelf) for file in files)


def _ended_with_its_box(cpu_s: float) -> Kept:
    """Make the report of a run whose box ended under it: killed from outside, mostly for the memory of the machine."""
    nothing = Stream(kept_bytes=0, head_bytes=0, total_bytes=0)
    report = Report(
        exit_code=None,
        signal="SIGKILL",
        reason=Reason.KILLED,
        phase="run",
        wall_s=0.0,
        cpu_s=cpu_s,
        peak_memory_bytes=0,
        stdout=nothing,
        stderr=nothing,
        results=[],
        changed=[],
        deleted=[],
        skipped=[],
        variables=0,
        is_fresh=True,
        was_reset=True,
    )
    return Kept(report, b"", b"")
