"""The one place that starts, watches, restarts and stops child processes."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from trainyard.core import errors
from trainyard.core.clock import Clock, SystemClock
from trainyard.core.processes import logs, running
from trainyard.core.processes.crashes import CrashHistory
from trainyard.core.processes.specs import CONFIG_EXIT, SETTLED, ChildSpec, ChildState, ChildStatus

_PROBE_S = 0.05


@dataclass(eq=False)
class _Child:
    spec: ChildSpec
    crashes: CrashHistory
    state: ChildState = ChildState.IDLE
    process: asyncio.subprocess.Process | None = None
    restarts: int = 0
    reason: str = ""
    watch: asyncio.Task[None] | None = None
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def status(self) -> ChildStatus:
        is_running = self.process is not None and self.process.returncode is None
        return ChildStatus(
            name=self.spec.name,
            state=self.state,
            pid=self.process.pid if self.process is not None and is_running else None,
            restarts=self.restarts,
            essential=self.spec.essential,
            reason=self.reason,
        )


class Supervisor:
    """Keeps children running; used from the main thread, since the kernel ties children to the thread that made them.

    Args:
        on_change: Told the new status after every change of a state; what it raises ends the watch over the child.
        clock: Times crashes.
        crashes: Makes the crash history of a child.
    """

    def __init__(
        self,
        *,
        on_change: Callable[[ChildStatus], None] = lambda _: None,
        clock: Clock | None = None,
        crashes: Callable[[], CrashHistory] = CrashHistory,
    ) -> None:
        self._on_change = on_change
        self._clock = clock or SystemClock()
        self._crashes = crashes
        self._children: dict[str, _Child] = {}
        self._changed = asyncio.Event()

    def add(self, spec: ChildSpec) -> None:
        """Know a child without starting it."""
        if spec.name in self._children:
            raise ValueError(f"there is a child {spec.name} already")
        self._children[spec.name] = _Child(spec, self._crashes())

    def start(self, name: str) -> None:
        """Begin to keep a child running; nothing happens when it is being kept, or has failed."""
        child = self._find(name)
        if child.state in (ChildState.IDLE, ChildState.STOPPED):
            child.stopping.clear()
            self._set(child, ChildState.STARTING)
            child.watch = asyncio.create_task(self._keep(child), name=f"keep {name}")

    async def ensure(self, name: str) -> None:
        """Return when a child is ready, started if it was not.

        Raises:
            errors.NotFound: there is no such child.
            errors.Unavailable: it has failed for good (code `child_failed`) or is being stopped (`child_stopped`).
        """
        self.start(name)
        state = await self.wait_for(name, SETTLED)
        self.check(name)
        if state is not ChildState.READY:
            raise errors.Unavailable(f"{name} was stopped", code="child_stopped")

    def check(self, name: str) -> None:
        """Raise errors.Unavailable (code `child_failed`) when a child has failed and is not started again."""
        child = self._find(name)
        if child.state is ChildState.FAILED:
            raise errors.Unavailable(f"{name} has failed: {child.reason}", code="child_failed")

    async def wait_for(self, name: str, wanted: Collection[ChildState]) -> ChildState:
        """Wait until a child is in one of the states, and tell which."""
        child = self._find(name)
        while child.state not in wanted:
            await self._changed.wait()
        return child.state

    async def replace(self, spec: ChildSpec) -> None:
        """Know a child by a new specification; one of that name that runs is stopped, and started again."""
        old = self._children.get(spec.name)
        is_kept = old is not None and old.state not in (ChildState.IDLE, ChildState.STOPPED)
        if old is not None:
            await self.remove(spec.name)
        self.add(spec)
        if is_kept:
            self.start(spec.name)

    async def remove(self, name: str) -> None:
        """Stop a child and forget it."""
        await self.stop(name)
        del self._children[name]

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a child that is ready; one that is not reads its configuration when it starts."""
        child = self._find(name)
        if child.state is ChildState.READY and child.process is not None and child.process.returncode is None:
            child.process.send_signal(number)

    async def stop(self, name: str) -> None:
        """Stop a child: SIGTERM, its grace, SIGKILL; returns when it is gone."""
        child = self._find(name)
        if child.watch is None or child.state in (ChildState.STOPPED, ChildState.FAILED):
            return
        child.stopping.set()
        await asyncio.wait([child.watch])

    async def stop_all(self, order: Sequence[Collection[str]] = ()) -> None:
        """Stop the named groups one after another, the children of a group at once, and then all others at once."""
        for group in order:
            await asyncio.gather(*(self.stop(name) for name in group))
        await asyncio.gather(*(self.stop(name) for name in self._children))

    def kill_all(self) -> None:
        """Kill every child without asking."""
        for child in self._children.values():
            child.stopping.set()
            if child.process is not None and child.process.returncode is None:
                running.kill(child.process)

    def status(self) -> list[ChildStatus]:
        """Tell about all children, in the order they were added."""
        return [child.status() for child in self._children.values()]

    # ------------------------------------------------------------------ inside
    def _find(self, name: str) -> _Child:
        if name not in self._children:
            known = ", ".join(self._children) or "none"
            raise errors.NotFound(f"there is no child {name}; known: {known}", code="unknown_child")
        return self._children[name]

    def _set(self, child: _Child, state: ChildState) -> None:
        if child.state is state:
            return
        child.state = state
        self._changed.set()
        self._changed = asyncio.Event()
        self._on_change(child.status())

    async def _keep(self, child: _Child) -> None:
        while not child.stopping.is_set():
            self._set(child, ChildState.STARTING)
            status = await self._run_once(child)
            if child.stopping.is_set():
                break
            if self._is_hopeless(child, status):
                self._set(child, ChildState.FAILED)
                return
            self._set(child, ChildState.WAITING)
            await _wait_at_most(child.stopping, child.crashes.delay_s)
            child.restarts += 1
        self._set(child, ChildState.STOPPED)

    def _is_hopeless(self, child: _Child, status: int) -> bool:
        child.crashes.record(self._clock.monotonic())
        if child.crashes.is_loop:
            child.reason = f"{child.crashes.limit} crashes in {child.crashes.window_s:g} s, the last: {child.reason}"
        return child.crashes.is_loop or status == CONFIG_EXIT

    async def _run_once(self, child: _Child) -> int:
        """Run the child's program to its end, which is asked for when the child is to stop; returns the exit status."""
        try:
            process = await running.spawn(child.spec)
        except OSError as error:
            child.reason = f"cannot be started: {error}"
            return CONFIG_EXIT
        child.process = process
        bounding = asyncio.create_task(logs.keep_bounded(child.spec.log))
        try:
            return await self._watch(child, process)
        finally:
            bounding.cancel()
            running.kill(process)

    async def _watch(self, child: _Child, process: asyncio.subprocess.Process) -> int:
        ended = asyncio.create_task(process.wait())
        stopping = asyncio.create_task(child.stopping.wait())
        probing = asyncio.create_task(self._until_ready(child))
        try:
            await asyncio.wait([ended, stopping, probing], return_when=asyncio.FIRST_COMPLETED)
            if probing.done() and not probing.result():
                running.kill(process)
                child.reason = f"not ready after {child.spec.start_timeout_s:g} s"
                return await ended
            await asyncio.wait([ended, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                self._set(child, ChildState.STOPPING)
                return await running.stop(process, child.spec.grace_s)
            child.reason = running.describe_exit(ended.result())
            return ended.result()
        finally:
            for task in (ended, stopping, probing):
                task.cancel()
            await asyncio.gather(ended, stopping, probing, return_exceptions=True)

    async def _until_ready(self, child: _Child) -> bool:
        """Mark the child ready when its probe says so; false when the time is over."""
        try:
            async with asyncio.timeout(child.spec.start_timeout_s):
                while child.spec.ready is not None and not await child.spec.ready():  # noqa: ASYNC110 - outside, by polling
                    await asyncio.sleep(_PROBE_S)
        except TimeoutError:
            return False
        self._set(child, ChildState.READY)
        return True


async def _wait_at_most(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
