"""Having sessions live: who may use one, in which order, and in which process."""

import asyncio
import functools
import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from trainyard.core import errors
from trainyard.core.principal import Principal
from trainyard.sandbox.service.live import LiveSession
from trainyard.sandbox.service.parts import Parts, is_owner, unknown_session
from trainyard.sandbox.store import FileRecord, Hold, SessionRecord, StateRecord
from trainyard.sandbox.store.ids import new_id
from trainyard.sandbox.types.domain import Shelf

LEASE_S = 10.0
"""A process that has been silent so long is taken for dead, and its sessions go to whoever wants them."""

MARGIN_S = 2.0
_ASK_S = 0.1
_ENDED = ("Z", "X")
"""States of a process that has ended and that nobody has waited for yet (proc_pid_stat(5))."""

_PATIENCE_S = 30.0
"""Beyond the longest run: for a checkpoint and a queue."""


class Holding:
    """The sessions of this process, and the way to one: one user at a time, and one process."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.sessions: dict[str, LiveSession] = {}

    # ------------------------------------------------------------------ new ones

    def begin(self, principal: Principal) -> LiveSession:
        """Make a session without a row; nobody else can know its id yet."""
        record = self._record(principal, None, Shelf())
        live = LiveSession(record, is_stored=False, revision=record.revision, used_s=self._parts.clock.monotonic())
        self._hold(live, Hold(record.id, self._parts.holder, record.fence))
        self.sessions[record.id] = live
        return live

    async def of_entity(self, principal: Principal, entity_id: str) -> SessionRecord:
        """Find the newest session of the caller's name for it, or make one."""
        made = self._record(principal, entity_id, Shelf(), is_held=False)
        return await self._parts.stored(self._parts.sessions.open, made)

    async def make(self, principal: Principal, shelf: Shelf) -> SessionRecord:
        """Make a session with a row and without a holder, for files."""
        record = self._record(principal, None, shelf, is_held=False)
        await self._parts.stored(self._parts.sessions.make, record)
        return record

    def row(self, live: LiveSession, *, is_held: bool) -> SessionRecord:
        """Tell what the row of a session that has none yet has to be."""
        parts, now = self._parts, self._parts.clock.now()
        return SessionRecord(
            id=live.id,
            tenant=live.record.tenant,
            owner=live.record.owner,
            entity_id=live.record.entity_id,
            created_at=live.record.created_at,
            used_at=now,
            expires_at=now + parts.settings.session_ttl_s,
            holder=parts.holder if is_held else None,
            fence=live.record.fence,
            lease_until=now + LEASE_S if is_held else None,
        )

    async def store(self, live: LiveSession) -> None:
        """Give a session its row before its files are written."""
        if not live.is_stored:
            await self._parts.stored(self._parts.sessions.make, self.row(live, is_held=True))
            live.is_stored = True

    # ------------------------------------------------------------------ those that are there

    async def find(self, principal: Principal, session_id: str) -> SessionRecord:
        """Find a session of the caller.

        Raises:
            errors.NotFound: It is unknown, has expired or is somebody else's; the same answer for all.
        """
        record = await self._parts.sessions.find(session_id)
        if record is None or record.expires_at <= self._parts.clock.now():
            raise unknown_session()
        if not is_owner(principal, record.tenant, record.owner):
            raise unknown_session()
        return record

    async def held_by(self, session_id: str | None, of: tuple[Principal, str] | None) -> str | None:
        """Name the process of this machine that has a session; None where it is this one, or none that lives.

        Args:
            session_id: Of the session.
            of: Its owner and his name for it, where it has no id.
        """
        parts = self._parts
        if session_id is not None:
            live = self.sessions.get(session_id)
            if live is not None and live.hold is not None and parts.clock.monotonic() < live.held_until_s:
                return None
            record = await parts.sessions.find(session_id)
        elif of is not None:
            principal, entity_id = of
            asked = (principal.tenant, principal.user, entity_id, parts.clock.now())
            record = await parts.stored(parts.sessions.newest, *asked)
        else:
            return None
        if record is None or record.holder is None or not is_held_elsewhere(record, parts.holder, parts.clock.now()):
            return None
        return _neighbour(record.holder)

    @asynccontextmanager
    async def entered(self, principal: Principal, session_id: str) -> AsyncIterator[LiveSession]:
        """Have a session of the caller for oneself, in this process; waits in line.

        Raises:
            errors.NotFound: As `find`.
            errors.Conflict: It was used by others all the time (code `session_busy`).
        """
        while True:
            live = self.sessions.get(session_id)
            if live is None:
                record = await self.find(principal, session_id)
                live = self.sessions.setdefault(session_id, LiveSession(record))
            elif not is_owner(principal, live.record.tenant, live.record.owner):
                raise unknown_session()
            async with self.locked(live):
                if live.is_gone:
                    continue
                live.used_s = self._parts.clock.monotonic()
                try:
                    await self._bring_up_to_date(live)
                    yield live
                finally:
                    self._forget_if_idle(live)
                return

    @asynccontextmanager
    async def entered_new(self, live: LiveSession) -> AsyncIterator[LiveSession]:
        """Have a session that `begin` has made."""
        async with live.lock:
            try:
                yield live
            finally:
                self._forget_if_idle(live)

    @asynccontextmanager
    async def locked(self, live: LiveSession) -> AsyncIterator[None]:
        """Wait in line for a session; raises errors.Conflict (code `session_busy`) when that takes too long."""
        try:
            async with asyncio.timeout(self._patience_s):
                await live.lock.acquire()
        except TimeoutError as error:
            raise _busy() from error
        try:
            yield
        finally:
            live.lock.release()

    def drop(self, live: LiveSession) -> None:
        """Forget a session here; its box has to be closed by whoever calls this."""
        live.is_gone = True
        if self.sessions.get(live.id) is live:
            del self.sessions[live.id]

    # ------------------------------------------------------------------ inside

    @property
    def _patience_s(self) -> float:
        return self._parts.limits.max_timeout_s + _PATIENCE_S

    def _record(
        self, principal: Principal, entity_id: str | None, shelf: Shelf, *, is_held: bool = True
    ) -> SessionRecord:
        parts, now = self._parts, self._parts.clock.now()
        return SessionRecord(
            id=new_id(),
            tenant=principal.tenant,
            owner=principal.user,
            entity_id=entity_id,
            kind=shelf.kind,
            resource_id=shelf.resource_id,
            version=shelf.version,
            created_at=now,
            used_at=now,
            expires_at=now + parts.settings.session_ttl_s,
            holder=parts.holder if is_held else None,
            fence=1 if is_held else 0,
            lease_until=now + LEASE_S if is_held else None,
        )

    def _hold(self, live: LiveSession, hold: Hold) -> None:
        live.hold = hold
        live.held_until_s = self._parts.clock.monotonic() + LEASE_S - MARGIN_S

    async def _bring_up_to_date(self, live: LiveSession) -> None:
        """Hold it here, and know what others have changed of it."""
        parts = self._parts
        if live.hold is None or parts.clock.monotonic() >= live.held_until_s:
            await self._claim(live)
        else:
            record = await parts.sessions.find(live.id)
            if record is None:
                self._lose(live)
                raise unknown_session()
            live.record = record
            if (record.holder, record.fence) != (live.hold.holder, live.hold.fence):
                self._lose(live)
                await self._claim(live)
        if live.record.expires_at <= parts.clock.now():
            raise unknown_session()
        if live.revision != live.record.revision:
            live.take(*await parts.stored(self._contents, live.id), live.record.revision)

    async def _claim(self, live: LiveSession) -> None:
        parts, asked_s = self._parts, 0.0
        while True:
            claimed = await parts.stored(
                parts.sessions.claim, live.id, parts.holder, parts.clock.now(), LEASE_S, is_dead
            )
            if claimed is None:
                self._lose(live)
                raise unknown_session()
            if claimed.hold is not None:
                break
            if asked_s >= self._patience_s:
                raise _busy()
            await asyncio.sleep(_ASK_S)
            asked_s += _ASK_S
        if live.hold is not None and live.hold.fence != claimed.session.fence:
            self._lose(live)  # somebody else had it since
        live.record = claimed.session
        self._hold(live, claimed.hold)

    def _lose(self, live: LiveSession) -> None:
        """Give up what is here of a session that was taken over or deleted."""
        live.hold, live.revision = None, -1
        live.forget_lost()
        box = live.leave_box()
        if box is not None:
            self._parts.finish(box.close())

    def _contents(self, session_id: str) -> tuple[list[FileRecord], StateRecord | None]:
        return self._parts.files.of_session(session_id), self._parts.states.find(session_id)

    def _forget_if_idle(self, live: LiveSession) -> None:
        """A session without a box is held by nobody: the next one who needs it reads it from the database."""
        if live.box is not None or live.is_gone or (live.is_stored and live.has_to_tell):
            return
        self.drop(live)
        if live.hold is not None and live.is_stored:
            self._parts.finish(self.released(live.hold))

    async def released(self, hold: Hold) -> None:
        """Let go of a session; where the database is away, the lease ends by itself."""
        try:
            await self._parts.stored(self._parts.sessions.release, hold)
        except errors.Unavailable:
            return


def _busy() -> errors.Conflict:
    return errors.Conflict(
        "This session was in use all the time; send the request again, or interrupt what runs",
        code="session_busy",
        retry_after_s=1,
    )


# ---------------------------------------------------------------------- who holds


def name_of_this_process(name: str | None = None) -> str:
    """Name this process so that others of this machine can tell whether it still lives.

    Args:
        name: By which others of this machine reach it.
    """
    return f"{_place()}:{os.getpid()}:{_began(os.getpid())}:{name or secrets.token_hex(4)}"


def is_dead(holder: str) -> bool:
    """Whether a holder was a process of this machine that has ended; of other machines only the lease tells."""
    place, _, rest = holder.partition(":")
    pid, _, _ = rest.partition(":")
    began = rest.split(":")[1] if rest.count(":") == 2 else None
    return place == _place() and began is not None and pid.isdecimal() and _began(int(pid)) != began


def is_held_elsewhere(record: SessionRecord, holder: str, now: float) -> bool:
    """Whether a process that lives, as far as can be told, has a session.

    Args:
        record: Of the session.
        holder: This process, which does not count.
        now: Unix seconds.
    """
    if record.holder in (None, holder) or (record.lease_until or 0.0) <= now:
        return False
    return not is_dead(record.holder or "")


def _neighbour(holder: str) -> str | None:
    """Read by what name a living process of this machine is reached."""
    place, _, rest = holder.partition(":")
    if place != _place() or rest.count(":") != 2:
        return None
    return rest.split(":")[2]


@functools.cache
def _place() -> str:
    """Name the space of process numbers: this boot of this machine, this container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # no /proc: nobody can be told dead
        return f"{socket.gethostname()}-{secrets.token_hex(8)}"
    return f"{boot}-{''.join(filter(str.isdecimal, space))}"


def _began(pid: int) -> str:
    """Tell when a process began, in ticks since the boot; empty where none of that number lives."""
    try:
        state, *facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in _ENDED else facts[18]
