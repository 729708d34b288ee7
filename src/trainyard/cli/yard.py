"""The processes of one server: which there are, how they start and drain, and what `run.json` says of them."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from trainyard.cli import reloading, zygotes
from trainyard.cli.up_report import Report
from trainyard.core import errors
from trainyard.core import settings as settings_module
from trainyard.core.catalog import ModelEntry, ModelRegistry
from trainyard.core.datadir import DataDirectory, make_socket_directory
from trainyard.core.processes import (
    ChildSpec,
    ChildState,
    ChildStatus,
    ControlServer,
    Handover,
    RunFile,
    Supervisor,
    handover,
    probes,
    runfile,
)
from trainyard.core.settings import Settings
from trainyard.core.telemetry import SHARED_DIRECTORY
from trainyard.engine import addresses
from trainyard.engine.server_config import EngineServerConfig

HTTP: Final = "http"
"""Name of the first HTTP process; the others are `http:1`, `http:2`, …"""
_ENGINE_GRACE_S: Final = 60.0
"""What an engine gets to write the state of its runs to disk."""

_LOOK_S: Final = 1.0
"""How often the files of the configuration are looked at."""

_HTTP_MARGIN_S: Final = 5.0
"""Added to `server.drain_s`, so that the HTTP process ends by its own deadline and not by SIGKILL."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What was found or made before anything is started."""

    settings: Settings
    flags: Mapping[str, str | int | None]
    config_file: Path | None
    data: DataDirectory
    listener: socket.socket
    url: str
    models: tuple[ModelEntry, ...]

    @property
    def workers(self) -> int:
        """How many HTTP processes there are."""
        return self.settings.server.workers


class Yard:
    """Starts the children, keeps `run.json`, drains; one use."""

    def __init__(self, around: Surroundings, report: Report) -> None:
        self._around = around
        self._report = report
        self._started_at = time.time()
        self._sockets = make_socket_directory()
        self._control = self._sockets / "control.sock"
        self._supervisor = Supervisor(on_change=self._changed)
        self._settings = around.settings
        self._entries = around.models
        self._engines = _served(around.models)
        self._hangup = asyncio.Event()
        self._has_reloaded = False
        self._https = [HTTP, *(f"{HTTP}:{worker}" for worker in range(1, around.workers))]
        self._metrics = self._sockets / "metrics"
        self._stop = asyncio.Event()
        self._is_hurried = False

    async def run(self) -> int:
        """Serve until a signal or until the HTTP process has failed; returns the exit status.

        Raises:
            errors.StartupError: the HTTP process cannot be kept running.
        """
        try:
            self._on_signals()
            control = await asyncio.start_unix_server(
                ControlServer(self._run_file, self._supervisor.ensure, self._supervisor.check).serve, self._control
            )
            with contextlib.closing(control):
                await self._serve()
        finally:
            self._supervisor.kill_all()
            self._around.data.run_json.unlink(missing_ok=True)
            shutil.rmtree(self._sockets, ignore_errors=True)
        return self._verdict()

    async def _serve(self) -> None:
        self._start()
        watching = asyncio.create_task(self._watch_configuration())
        await self._stop.wait()
        watching.cancel()
        self._report.draining()
        await self._supervisor.stop_all([self._https])

    def _start(self) -> None:
        self._metrics.mkdir(mode=0o700)
        for worker in range(self._around.workers):
            self._supervisor.add(self._http(worker))
        for name, entry in self._engines.items():
            self._supervisor.add(self._engine(name, entry))
        self._start_zygotes()
        self._start_eager()
        for name in self._https:
            self._supervisor.start(name)

    def _start_zygotes(self) -> None:
        for spec in zygotes.specs(self._around.settings, self._sockets, self._log):
            self._supervisor.add(spec)
            self._supervisor.start(spec.name)

    def _start_eager(self) -> None:
        for name, entry in self._engines.items():
            if entry.load == "eager":
                self._supervisor.start(name)

    def _verdict(self) -> int:
        for child in self._supervisor.status():
            if child.essential and child.state is ChildState.FAILED:
                raise errors.StartupError(f"an http process has failed: {child.reason}; see {self._log(child.name)}")
        return 128 + signal.SIGINT if self._is_hurried else 0

    def _on_signals(self) -> None:
        events = asyncio.get_running_loop()
        events.add_signal_handler(signal.SIGTERM, self._stop.set)
        events.add_signal_handler(signal.SIGINT, self._interrupt)
        events.add_signal_handler(signal.SIGHUP, self._hangup.set)

    def _interrupt(self) -> None:
        """Drain at the first Ctrl-C, kill at the second."""
        if self._stop.is_set():
            self._is_hurried = True
            self._supervisor.kill_all()
        self._stop.set()

    # -------------------------------------------------------------- reloading
    async def _watch_configuration(self) -> None:
        """Read the configuration again at SIGHUP and when its files have changed."""
        files = reloading.FileWatch(self._files())
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._hangup.wait()
            has_changed = files.has_changed()  # looked at before the files are read, so that no later change is lost
            if self._hangup.is_set() or has_changed:
                self._hangup.clear()
                await self._reload()
                files.follow(self._files())

    def _files(self) -> list[Path]:
        config = self._around.config_file or Path("trainyard.yaml")
        return [config, *filter(None, [self._settings.models_file])]

    async def _reload(self) -> None:
        """Let the new configuration take effect as far as it can; a faulty one changes nothing."""
        try:
            settings = settings_module.load(self._around.flags, self._around.config_file)
            entries = ModelRegistry.from_settings(settings).entries
            reloading.check_written(settings.models_file)
        except errors.ConfigError as error:
            self._report.reload_refused(error.message)
            return
        restart = reloading.needs_restart(self._around.settings, settings)
        self._settings = settings
        self._entries = entries
        before, self._engines = self._engines, _served(entries)
        await self._adopt(before)
        self._tell_https()
        for name in before.keys() - self._engines.keys():  # last, when nobody is sent there any more
            await self._supervisor.remove(name)
        self._report.reloaded([entry.name for entry in entries], restart)

    async def _adopt(self, before: Mapping[str, ModelEntry]) -> None:
        """Have engines for the models that are new or other ones than before; the others go on untouched."""
        for name, entry in self._engines.items():
            if name not in before or _engine_facts(before[name]) != _engine_facts(entry):
                await self._supervisor.replace(self._engine(name, entry))
        self._start_eager()

    def _tell_https(self) -> None:
        self._has_reloaded = True
        for name in self._https:
            self._supervisor.signal(name, signal.SIGHUP)

    # --------------------------------------------------------------- children
    def _http(self, worker: int) -> ChildSpec:
        around = self._around
        name = self._https[worker]
        document = Handover(
            flags=dict(around.flags),
            config_file=str(around.config_file.absolute()) if around.config_file else None,
            listen_fd=around.listener.fileno(),
            url=around.url,
            control_socket=str(self._control),
            socket_directory=str(self._sockets),
            worker=worker,
        )
        shared = {SHARED_DIRECTORY: str(self._metrics)} if around.workers > 1 else {}
        return ChildSpec(
            name=name,
            argv=(sys.executable, "-m", "trainyard.app"),
            env={**os.environ, **shared},
            stdin=handover.write(document),
            ready=probes.unix_socket(document.socket_of(worker)),
            essential=True,
            log=self._log(name),
            pass_fds=(around.listener.fileno(),),
            grace_s=around.settings.server.drain_s + _HTTP_MARGIN_S,
        )

    def _engine(self, name: str, entry: ModelEntry) -> ChildSpec:
        settings = self._around.settings.engine
        path = addresses.socket_path(self._sockets, entry.name)
        config = EngineServerConfig(
            socket=str(path),
            name=entry.name,
            model_dir=str(entry.path or ""),
            core="fake" if entry.backend == "fake" else "model",
            device=settings.device,
            threads=settings.threads,
            kv_max_bytes=settings.kv_max_bytes,
            max_queue=settings.max_queue,
        )
        return ChildSpec(
            name=name,
            argv=(sys.executable, "-m", "trainyard.engine.server"),
            env=_engine_environment(self._entries),
            stdin=msgspec.json.encode(config),
            ready=probes.unix_socket(path),
            log=self._log(name),
            grace_s=_ENGINE_GRACE_S,
        )

    def _log(self, name: str) -> Path:
        return self._around.data.logs / f"{name.replace(':', '-').replace('/', '-')}.log"

    # ----------------------------------------------------------------- status
    def _changed(self, status: ChildStatus) -> None:
        """Tell what changed; neither a full disk nor a closed terminal ends the watch over the children."""
        try:
            runfile.write(self._around.data.run_json, self._run_file())
        except OSError as error:
            self._report.run_file_not_written(error)
        self._report.child(status, self._log(status.name))
        if self._has_reloaded and status.name in self._https and status.state is ChildState.READY:
            self._supervisor.signal(status.name, signal.SIGHUP)  # it may have read the files before they changed
        if status.essential and status.state is ChildState.FAILED:
            self._stop.set()

    def _run_file(self) -> RunFile:
        return RunFile(
            pid=os.getpid(),
            url=self._around.url,
            started_at=self._started_at,
            control_socket=str(self._control),
            socket_directory=str(self._sockets),
            sockets={
                name: str(addresses.socket_path(self._sockets, entry.name)) for name, entry in self._engines.items()
            },
            children=self._supervisor.status(),
        )


def _served(entries: Sequence[ModelEntry]) -> dict[str, ModelEntry]:
    """Find what there is to start, by name of the child: fakes, and models whose files are on this machine."""
    return {
        addresses.child_name(entry.name): entry
        for entry in entries
        if entry.load != "off" and (entry.backend == "fake" or (entry.backend == "local" and entry.path is not None))
    }


def _engine_environment(entries: Sequence[ModelEntry]) -> dict[str, str]:
    """Give an engine the environment without the server's own settings and the keys of upstreams."""
    secret = {entry.api_key_env for entry in entries}
    return {
        name: value for name, value in os.environ.items() if not name.startswith("TRAINYARD_") and name not in secret
    }


def _engine_facts(entry: ModelEntry) -> tuple[object, ...]:
    """What an engine is started with; a change of anything else needs no new one."""
    return entry.backend, entry.path


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared with, not bound to


def listen(host: str, port: int) -> socket.socket:
    """Open the TCP socket that clients connect to, before anything else is started.

    Raises:
        errors.StartupError: the port is taken, or the address is not one of this machine.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with contextlib.ExitStack() as until_it_listens:
            listener = until_it_listens.enter_context(socket.socket(family, kind, proto))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(2048)
            until_it_listens.pop_all()
    except OSError as error:
        message = f"cannot listen on {host} port {port} ({error.strerror}); choose another --host or --port"
        raise errors.StartupError(message, code="port_taken", param="server.port") from error
    listener.set_inheritable(True)
    return listener


def url_of(listener: socket.socket, scheme: Literal["http", "https"] = "http") -> str:
    """Name the address that clients on this machine use."""
    host, port = listener.getsockname()[:2]
    reachable = _reachable(host)
    return f"{scheme}://[{reachable}]:{port}" if ":" in reachable else f"{scheme}://{reachable}:{port}"
