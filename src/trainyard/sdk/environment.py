"""Where the server is when the caller does not say: the one place of the SDK that reads the environment."""

import os

DEFAULT_URL = "http://127.0.0.1:8000"
URL_VARIABLE = "TRAINYARD_URL"
KEY_VARIABLE = "TRAINYARD_API_KEY"


def address(base_url: str | None, api_key: str | None) -> tuple[str, str | None]:
    """Complete (URL without a final slash, key): arguments, then the environment, then the local default."""
    url = base_url or os.environ.get(URL_VARIABLE) or DEFAULT_URL
    return url.rstrip("/"), api_key or os.environ.get(KEY_VARIABLE) or None
