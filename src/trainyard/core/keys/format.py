"""What a key looks like, and the keyed hash by which it is recognised."""

import functools
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable

from trainyard.core import errors
from trainyard.core.principal import SCOPES

PREFIX_CHARACTERS = 11
"""`sk-` and eight characters: enough to tell keys apart, 48 of 256 random bits."""

_BLOCK_BYTES = 64  # of SHA-256
_BODY_BYTES = 32  # 43 characters of unpadded url-safe base 64
_PATTERN = re.compile(r"(?:sk-|tml-)([A-Za-z0-9_-]{43})")
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+:-]{0,127}")

NAME_PATTERN = f"^{_NAME.pattern}$"
"""Of tenants and users, for the document of the HTTP interface."""


def mint() -> str:
    """Make a key: `sk-` and 43 url-safe characters, 256 random bits."""
    return f"sk-{secrets.token_urlsafe(_BODY_BYTES)}"


def canonical(key: object) -> str | None:
    """Bring `tml-` + body, the form that the Tinker client insists on, to `sk-` + body; None for what is no key."""
    match = _PATTERN.fullmatch(key) if isinstance(key, str) else None
    return f"sk-{match[1]}" if match else None


def can_be_id(text: str) -> bool:
    """Whether a text can name a key; what cannot is not looked for, since databases refuse some of it."""
    return _ID.fullmatch(text) is not None


def safe_id(key_id: str) -> str:
    """Repeat what was given as an id in a message; of a key that somebody gave instead, its prefix alone."""
    return f"{key_id[:PREFIX_CHARACTERS]}…" if canonical(key_id) else key_id[:60]


def digest(key: str, pepper: bytes) -> str:
    """Hash a canonical key; 256 random bits need no slow hash, and the pepper is not in the database."""
    inner_begun, outer_begun = _begun(pepper)
    inner, outer = inner_begun.copy(), outer_begun.copy()
    inner.update(key.encode())
    outer.update(inner.digest())
    return outer.hexdigest()


@functools.lru_cache(maxsize=8)
def _begun(pepper: bytes) -> tuple["hashlib._Hash", "hashlib._Hash"]:
    """Begin HMAC's two hashes (RFC 2104) with the pepper: every request then costs half of what `hmac` takes."""
    block = (pepper if len(pepper) <= _BLOCK_BYTES else hashlib.sha256(pepper).digest()).ljust(_BLOCK_BYTES, b"\0")
    return hashlib.sha256(bytes(one ^ 0x36 for one in block)), hashlib.sha256(bytes(one ^ 0x5C for one in block))


def derive_pepper(secret: bytes) -> bytes:
    """Derive the pepper of keys from the server's secret, so that other uses of the secret reveal nothing of it."""
    return hmac.new(secret.strip(), b"trainyard api keys 1", hashlib.sha256).digest()


def fingerprint(pepper: bytes) -> str:
    """Name a pepper without revealing it: 16 hex digits."""
    return hmac.new(pepper, b"trainyard pepper fingerprint 1", hashlib.sha256).hexdigest()[:16]


def read_scopes(scopes: str | Iterable[str]) -> frozenset[str]:
    """Read scopes as people write them: a list, or text with commas; `all` stands for every one.

    Raises:
        errors.InvalidRequest: There is none, or one is unknown.
    """
    parts = scopes.split(",") if isinstance(scopes, str) else list(scopes)
    names = {part.strip() for part in parts if part.strip()}
    unknown = sorted(names - {*SCOPES, "all"})
    if unknown or not names:
        found = f"unknown scope '{unknown[0]}'" if unknown else "no scope given"
        raise errors.InvalidRequest(f"{found}; valid scopes: {', '.join(SCOPES)}, all", param="scopes")
    return frozenset(SCOPES) if "all" in names else frozenset(names)


def read_name(name: str, param: str) -> str:
    """Check the name of a tenant or a user, which becomes part of paths and log lines.

    Raises:
        errors.InvalidRequest: It holds other characters than allowed or is too long.
    """
    if not _NAME.fullmatch(name):
        raise errors.InvalidRequest(
            f"{param} {name[:40]!r} is not usable; write 1 to 128 of letters, digits and _ . @ + : - "
            "and begin with a letter, a digit or _",
            param=param,
        )
    return name
