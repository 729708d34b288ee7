"""HTTPS: with a certificate that the settings name, or with one that is made here."""

import ssl
from pathlib import Path
from typing import Final, NoReturn

from trainyard.core import errors
from trainyard.core.datadir import DataDirectory
from trainyard.core.settings import Settings

OWN: Final = "cert.pem"
"""In `<data>/tls`: the self-signed certificate, for clients to trust (`TRAINYARD_CA`)."""

_OWN_WITH_KEY: Final = "server.pem"


def own_certificate(data_dir: Path) -> Path:
    """Tell where the self-signed certificate of a data directory is."""
    return DataDirectory(data_dir).path / "tls" / OWN


def prepare(effective: Settings) -> Path | None:
    """Make sure that HTTPS can be spoken, before anything is started.

    Returns:
        The self-signed certificate, made when there is none that is good for a month; None where it is not used.

    Raises:
        errors.ConfigError: As `context`.
    """
    own = None
    if effective.server.tls_self_signed:
        from trainyard.core.http import self_signed  # what it needs takes a while to import

        own = own_certificate(effective.data_dir)
        self_signed.keep(own.with_name(_OWN_WITH_KEY), own)
    context(effective)
    return own


def context(effective: Settings) -> ssl.SSLContext | None:
    """Load certificate and key; None where HTTP is spoken.

    Raises:
        errors.ConfigError: They cannot be read, do not belong together, or the key is encrypted.
    """
    if not effective.server.speaks_tls:
        return None
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # TLS 1.2 and later
    made.set_alpn_protocols(["http/1.1"])
    _load(made, effective)
    return made


def renew(used: ssl.SSLContext, effective: Settings) -> None:
    """Use what now stands in the files for connections that begin from now on.

    Raises:
        errors.ConfigError: As `context`; nothing has changed.
    """
    context(effective)
    _load(used, effective)


def _load(into: ssl.SSLContext, effective: Settings) -> None:
    server = effective.server
    certificate = server.tls_cert or own_certificate(effective.data_dir).with_name(_OWN_WITH_KEY)
    try:
        into.load_cert_chain(certificate, server.tls_key, password=_ask_nobody)
    except OSError as error:  # `ssl.SSLError` is one
        param = "server.tls_cert" if server.tls_cert else "server.tls_self_signed"
        files = certificate if server.tls_key is None else f"{certificate} and {server.tls_key}"
        why = error.strerror if isinstance(error, FileNotFoundError | PermissionError) else (error.args or (error,))[-1]
        raise errors.ConfigError(f"{param}: {files} are no certificate with its key: {why}", param=param) from error


def _ask_nobody() -> NoReturn:
    raise ssl.SSLError("the key is encrypted; write it down without a passphrase, readable by the server alone")
