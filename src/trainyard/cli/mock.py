"""`trainyard mock`: an LLM server without a model, for tests and load tests of what talks to one."""

import asyncio
import contextlib
import os
from typing import Annotated

import typer

from trainyard.cli import options, output
from trainyard.core import errors


def mock(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8001,
    models: Annotated[str, typer.Option(help="Names that it lists, with commas; it answers for every other.")] = "mock",
    first_token_ms: Annotated[float, typer.Option(min=0, help="Time to the first token.")] = 0.0,
    token_ms: Annotated[float, typer.Option(min=0, help="Time per further token.")] = 0.0,
    answer_tokens: Annotated[int, typer.Option(min=1, help="Length of answers that nothing else limits.")] = 16,
    as_json: options.AsJson = False,
) -> None:
    """Serve OpenAI's and Ollama's wire without a model until interrupted.

    A model name that ends in `:<fault>`, the header `x-mock-fault` or POST /_mock/faults makes it fail; GET /_mock/seen
    counts what came.
    """
    import uvloop

    from trainyard.loadtest.mock import Latency, MockServer, serve

    latency = Latency(first_token_s=first_token_ms / 1000, token_s=token_ms / 1000, answer_tokens=answer_tokens)
    server = MockServer(latency=latency, models=[name.strip() for name in models.split(",") if name.strip()])

    def started(url: str) -> None:
        output.json_line({"url": url}) if as_json else output.line(f"mock on [bold]{url}[/]  (Ctrl-C ends it)")

    try:
        with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(server, host, port, started))
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error
        message = f"the mock cannot listen on {host} port {port} ({why}); choose another --host or --port"
        raise errors.StartupError(message, code="port_taken", param="port") from error
