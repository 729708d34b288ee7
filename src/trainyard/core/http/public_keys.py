"""The public keys of whoever signs tokens, read again when their files change."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import jwt
import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from trainyard.core import errors

PublicKey = Ed25519PublicKey | RSAPublicKey

ALGORITHMS: Final = ("EdDSA", "RS256")
_MIN_RSA_BITS: Final = 2048
_KID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_ANY: Final = ""
"""In place of a name, for a key that is good for every name."""

_log = structlog.get_logger("tokens")

Stamp = tuple[int, int, int]
Keys = Mapping[str, PublicKey]
NO_KEYS: Final[Keys] = {}


class PublicKeys:
    """Finds the key that a token names.

    The files are looked at when a token comes, and read when they have changed. Keys of a file that is gone are gone;
    one that cannot be read, such as one that is being written, leaves its keys as they were, and the log says so.

    Args:
        path: A JWKS file, a directory of `<kid>.pem`, or one PEM file.

    Attributes:
        changes: How often the files have changed since.

    Raises:
        errors.ConfigError: There is nothing usable.
    """

    def __init__(self, path: Path) -> None:
        self.changes = 0
        self._path = path
        self._files = {file: (stamp, _of_file(file, self._kid_of(file))) for file, stamp in self._seen().items()}
        if not any(keys for _, keys in self._files.values()):
            raise _unusable(path, "there is no key in it")

    def find(self, kid: str | None) -> PublicKey | None:
        """Find the key of a name among the files as `refresh` has seen them; None where there is none."""
        for _, keys in self._files.values():
            found = keys.get(_ANY) or (keys.get(kid) if kid else None)
            if found is not None:
                return found
        return None

    def refresh(self) -> None:
        """Look whether the files have changed, and read those that have."""
        before, seen = self._files, self._seen()
        if seen == {file: stamp for file, (stamp, _) in before.items()}:
            return
        self.changes += 1
        self._files = {}
        for file, stamp in seen.items():
            known, had = before.get(file, (None, NO_KEYS))
            self._files[file] = (stamp, had if known == stamp else self._read_again(file, had))

    def _read_again(self, file: Path, had: Keys) -> Keys:
        try:
            return _of_file(file, self._kid_of(file))
        except errors.ConfigError as error:
            _log.warning("keys_not_read", path=str(file), reason=error.message)
            return had

    def _kid_of(self, file: Path) -> str:
        return file.stem if self._path.is_dir() else _ANY

    def _seen(self) -> dict[Path, Stamp]:
        files = sorted(self._path.glob("*.pem")) if self._path.is_dir() else [self._path]
        stamps = {file: _stamp(file) for file in files}
        return {file: stamp for file, stamp in stamps.items() if stamp is not None}


def _stamp(file: Path) -> Stamp | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _of_file(file: Path, kid: str) -> Keys:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise _unusable(file, str(error)) from error
    if kid and not _KID.fullmatch(kid):
        raise _unusable(file, "its name has other characters than letters, digits and _ . -")
    return _of_jwks(file, content) if content.lstrip().startswith(b"{") else {kid: _of_pem(file, content)}


def _of_pem(file: Path, content: bytes) -> PublicKey:
    try:
        return _checked(file, load_pem_public_key(content))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _unusable(file, "it is no public key in PEM form") from error


def _of_jwks(file: Path, content: bytes) -> Keys:
    try:
        members = json.loads(content)["keys"]
        return {_kid(member): _checked(file, jwt.PyJWK(member).key) for member in members if _is_known(member)}
    except (ValueError, TypeError, KeyError, AttributeError, jwt.PyJWTError) as error:
        raise _unusable(file, f"it is no JWKS ({error})") from error


def _is_known(member: Mapping[str, Any]) -> bool:
    """Whether a member of a JWKS is of a kind that is accepted here, and for signatures."""
    return member.get("kty") in ("OKP", "RSA") and member.get("use", "sig") == "sig"


def _kid(member: Mapping[str, Any]) -> str:
    kid = member.get("kid")
    if not isinstance(kid, str) or not kid:
        raise ValueError("a key has no kid")
    return kid


def _checked(file: Path, key: object) -> PublicKey:
    if isinstance(key, RSAPublicKey) and key.key_size >= _MIN_RSA_BITS:
        return key
    if isinstance(key, Ed25519PublicKey):
        return key
    raise _unusable(file, f"only Ed25519 and RSA of {_MIN_RSA_BITS} bits or more are accepted, and only public keys")


def _unusable(path: Path, reason: str) -> errors.ConfigError:
    return errors.ConfigError(
        f"sandbox.jwt.keys: {path}: {reason}; name a JWKS file, a directory of <kid>.pem, or a PEM file with a public "
        "key",
        param="sandbox.jwt.keys",
    )
