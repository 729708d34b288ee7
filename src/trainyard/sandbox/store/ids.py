"""Ids of sessions and files, as LibreChat's client checks them: 21 of `A-Za-z0-9_-`, letters or digits at both ends."""

import secrets

_BYTES = 16
"""22 characters of 6 bits, of which 21 are kept: 126 random bits."""


def new_id() -> str:
    """Draw one; one of 16 is thrown away for its ends."""
    while True:
        drawn = secrets.token_urlsafe(_BYTES)[:21]
        if drawn[0].isalnum() and drawn[-1].isalnum():
            return drawn
