"""`trainyard up`: the whole server in the foreground."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from trainyard.cli.options import ConfigFile, DataDir
from trainyard.cli.up_report import Report
from trainyard.cli.yard import Surroundings, Yard, listen, url_of
from trainyard.core import settings as settings_module
from trainyard.core.blobs import DirectoryBlobs
from trainyard.core.catalog import ModelRegistry
from trainyard.core.datadir import DataDirectory, DataDirectoryLock, remove_stale_sockets
from trainyard.core.http import tls


def up(
    host: Annotated[
        str | None, typer.Option("--host", help="Address; 127.0.0.1 when left out.", show_default=False)
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", help="Port, 0 = a free one; 8000 when left out.", show_default=False)
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="HTTP processes; more than one needs redis.url.", show_default=False),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option("--tls-cert", help="Speak HTTPS with this certificate, a PEM file.", show_default=False),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option("--tls-key", help="The key of --tls-cert, a PEM file.", show_default=False)
    ] = None,
    tls_self_signed: Annotated[
        bool, typer.Option("--tls-self-signed", help="Speak HTTPS with a certificate that is made here.")
    ] = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON value per line instead of text.")] = False,
) -> None:
    """Start the server: training, serving and their engines, until Ctrl-C."""
    flags: dict[str, str | int | None] = {
        "server.host": host,
        "server.port": port,
        "server.workers": workers,
        "server.tls_cert": None if tls_cert is None else str(tls_cert.absolute()),
        "server.tls_key": None if tls_key is None else str(tls_key.absolute()),
        "server.tls_self_signed": "true" if tls_self_signed else None,
        "data_dir": None if data_dir is None else str(data_dir.absolute()),
    }
    code = serve(flags, config, Report(as_json=as_json))
    if code:
        raise typer.Exit(code)


def serve(flags: dict[str, str | int | None], config_file: Path | None, report: Report) -> int:
    """Run the server to its end and return the exit status.

    Raises:
        errors.ConfigError: the settings or the catalog cannot be used.
        errors.StartupError: directory, lock, port or database do not allow a start.
    """
    settings = settings_module.load(flags, config_file)
    models = ModelRegistry.from_settings(settings).entries
    data = DataDirectory(settings.data_dir)
    data.prepare()
    lock = DataDirectoryLock(data)
    try:
        remove_stale_sockets(data)
        asyncio.run(DirectoryBlobs(data.blobs).remove_unfinished(min_age_s=0))
        certificate = tls.prepare(settings)
        with listen(settings.server.host, settings.server.port) as listener:
            from trainyard import app  # seconds of imports, which a refused start need not wait for

            first_key = app.bootstrap(settings).first_key
            url = url_of(listener, "https" if settings.server.speaks_tls else "http")
            report.started(url, data.path, first_key, models, certificate)
            around = Surroundings(
                settings=settings,
                flags=flags,
                config_file=config_file,
                data=data,
                listener=listener,
                url=url,
                models=models,
            )
            return asyncio.run(_run(around, report))
    finally:
        lock.release()


async def _run(around: Surroundings, report: Report) -> int:
    return await Yard(around, report).run()
