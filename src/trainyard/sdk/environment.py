"""Where the server is when the caller does not say: the one place of the SDK that reads the environment."""

import os
import ssl
from pathlib import Path

DEFAULT_URL = "http://127.0.0.1:8000"
URL_VARIABLE = "TRAINYARD_URL"
KEY_VARIABLE = "TRAINYARD_API_KEY"
CA_VARIABLE = "TRAINYARD_CA"


def address(base_url: str | None, api_key: str | None) -> tuple[str, str | None]:
    """Complete (URL without a final slash, key): arguments, then the environment, then the local default."""
    url = base_url or os.environ.get(URL_VARIABLE) or DEFAULT_URL
    return url.rstrip("/"), api_key or os.environ.get(KEY_VARIABLE) or None


def trust(ca: Path | str | None) -> ssl.SSLContext | bool:
    """Tell which certificates of servers are believed, as httpx takes it.

    Args:
        ca: PEM file of certificates that are believed beside those that the system believes; TRAINYARD_CA when left
            out.

    Raises:
        OSError: The file cannot be read, or holds no certificate.
    """
    named = ca or os.environ.get(CA_VARIABLE)
    if not named:
        return True
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(named)
    except OSError as error:  # `ssl.SSLError` is one; neither names the file
        raise OSError(f"{named} holds no certificates to trust: {error}") from error
    return context
