"""`python -m trainyard.engine.server`: one base model behind a unix socket, computing in a thread of its own.

Reads one JSON document (`EngineServerConfig`) from stdin, so that nothing stands on the command line. SIGTERM writes
every run durably and exits 0; the socket appears when the model is loaded, which is how a supervisor sees that the
process is ready.
"""

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from trainyard.core import errors
from trainyard.core.processes import CONFIG_EXIT
from trainyard.engine import cores, protocol, types
from trainyard.engine.channel import Channel
from trainyard.engine.loop import ComputeLoop
from trainyard.engine.server_config import EngineServerConfig

FAULT_EXIT: Final = 70
"""Exit status after the compute thread failed (EX_SOFTWARE of sysexits.h)."""

_log = structlog.get_logger(__name__)


class SocketOutlet:
    """The answers to one connection; frames of one tick leave together."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._events = asyncio.get_running_loop()

    def result(self, number: int, message: types.Message) -> None:
        """Answer a call."""
        self._soon(number, protocol.Kind.RESULT, protocol.encode(message))

    def error(self, number: int, error: errors.TrainyardError) -> None:
        """Fail a call or end a stream."""
        self._soon(number, protocol.Kind.ERROR, protocol.encode_error(error))

    def tokens(self, batch: list[protocol.Tokens]) -> None:
        """Send the tokens of a tick in one message."""
        self._soon(0, protocol.Kind.TOKENS, protocol.encode(batch))

    def _soon(self, number: int, kind: protocol.Kind, payload: bytes) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop has ended: the process is going
            self._events.call_soon_threadsafe(self._channel.post, number, kind, payload)


class EngineServer:
    """Speaks the engine protocol for a compute loop."""

    def __init__(self, compute: ComputeLoop) -> None:
        self._compute = compute

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        channel = Channel(reader, writer)
        outlet = SocketOutlet(channel)
        try:
            while True:
                for message in await channel.receive():
                    self._route(channel, outlet, message)
        except (EOFError, ConnectionError):
            pass
        except protocol.ProtocolError as error:
            _log.warning("connection_refused", reason=error.message)
        finally:
            self._compute.drop(outlet)
            await channel.aclose()

    def _route(self, channel: Channel, outlet: SocketOutlet, message: protocol.Frame) -> None:
        match message.kind:
            case protocol.Kind.CALL:
                self._call(outlet, message)
            case protocol.Kind.CANCEL:
                channel.assembler.drop(message.stream)
                self._compute.cancel(outlet, message.stream)
            case protocol.Kind.CREDIT:
                tokens = protocol.decode(protocol.credit_decoder, message.payload)
                self._compute.credit(outlet, message.stream, tokens)
            case protocol.Kind.PING:
                channel.post(0, protocol.Kind.PING)
            case _:
                raise protocol.ProtocolError(f"a caller does not send {message.kind.value}")

    def _call(self, outlet: SocketOutlet, message: protocol.Frame) -> None:
        try:
            call = protocol.decode(protocol.call_decoder, message.payload)
        except protocol.ProtocolError as error:
            outlet.error(message.stream, errors.InvalidRequest(error.message))
        else:
            self._compute.submit(outlet, message.stream, call)


async def run(config: EngineServerConfig, core: cores.Core[Any]) -> int:
    """Serve until SIGTERM or SIGINT (0) or until the compute thread fails (`FAULT_EXIT`)."""
    events = asyncio.get_running_loop()
    over = asyncio.Event()
    faults: list[int] = []

    def died() -> None:
        faults.append(FAULT_EXIT)
        events.call_soon_threadsafe(over.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        events.add_signal_handler(number, over.set)
    compute = ComputeLoop(core, on_death=died, stream_stall_s=config.stream_stall_s)
    compute.start()
    server = await asyncio.start_unix_server(
        EngineServer(compute).serve, config.socket
    )  # takes the place of a stale one
    _log.info("engine_ready", model=config.name, socket=config.socket)
    await over.wait()
    server.close()
    await asyncio.to_thread(compute.drain)
    _log.info("engine_stopped", model=config.name, exit_status=sum(faults))
    return sum(faults)


def make_core(config: EngineServerConfig) -> cores.Core[Any]:
    """Load the model, or make the fake; raises errors.ConfigError for a directory without a usable model."""
    if config.core == "fake":
        from trainyard.engine.fake_core import FakeCore

        return FakeCore(
            config.name,
            token_s=config.fake_token_s,
            micro_step_s=config.fake_micro_step_s,
            max_streams=config.fake_max_streams,
            max_queue=config.max_queue,
        )
    import torch

    from trainyard.engine.core import EngineCore

    auto = "cuda" if torch.cuda.is_available() else "cpu"
    device = auto if config.device == "auto" else config.device
    core = EngineCore(
        Path(config.model_dir),
        config.name,
        device=device,
        threads=config.threads,
        kv_max_bytes=config.kv_max_bytes,
        max_queue=config.max_queue,
    )
    core.prepare()
    return core


def main(read: Callable[[], bytes] = sys.stdin.buffer.read) -> int:
    """Run an engine process; the exit status is 0 after a drain."""
    _configure_logging()
    try:
        config = msgspec.json.decode(read(), type=EngineServerConfig)
        core = make_core(config)
    except (msgspec.DecodeError, errors.TrainyardError) as error:
        _log.error("engine_not_started", error=str(error))
        return CONFIG_EXIT
    return asyncio.run(run(config, core))


def _configure_logging() -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )


if __name__ == "__main__":
    sys.exit(main())
