"""Tokens that a host such as LibreChat signs for its users (JSON Web Tokens, RFC 7519)."""

from collections.abc import Mapping
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from trainyard.core import errors
from trainyard.core.clock import Clock
from trainyard.core.http.public_keys import ALGORITHMS, PublicKeys
from trainyard.core.keys import format, guests
from trainyard.core.principal import Principal
from trainyard.core.settings import SandboxJwt

DEFAULT_TENANT: Final = "legacy"
"""Of tokens without `tenant_id`: LibreChat's own name for it."""

_MAX_CHARACTERS: Final = 8192
_MAX_KNOWN: Final = 4096
"""Tokens that need no second look at their signature, which costs a third of a millisecond; hosts repeat them."""

_SCOPES: Final = frozenset({"execute"})


def looks_like_token(text: str) -> bool:
    """Whether a credential has the form of a signed token; no API key has it."""
    return text.startswith("eyJ") and text.count(".") == 2


class Tokens:
    """Tells who a token is for; one that was verified is known by its text until it expires or the keys change.

    Args:
        rules: Of the settings; their `keys` must be set.
        clock: Against which times are held.

    Raises:
        errors.ConfigError: The keys cannot be used.
    """

    def __init__(self, rules: SandboxJwt, clock: Clock) -> None:
        if rules.keys is None:
            raise errors.ConfigError("sandbox.jwt.keys is not set", param="sandbox.jwt.keys")
        self._rules, self._clock = rules, clock
        self._keys = PublicKeys(rules.keys)
        self._known: dict[str, tuple[Principal, float]] = {}
        self._known_by = self._keys.changes

    def read(self, token: str) -> Principal:
        """Verify a token: signature, issuer, audience, times, lifetime, user and tenant.

        Raises:
            errors.Unauthenticated: Code `invalid_token`; the message names what is wrong.
        """
        self._keys.refresh()
        if self._known_by != self._keys.changes or len(self._known) >= _MAX_KNOWN:
            self._known, self._known_by = {}, self._keys.changes
        known = self._known.get(token)
        if known is not None and self._clock.now() < known[1]:
            return known[0]
        claims = self._verified(token)
        self._check_times(claims)
        tenant, user = _name(claims, "tenant_id", DEFAULT_TENANT), _name(claims, "sub")
        principal = guests.principal("jwt", tenant, user, _SCOPES)
        self._known[token] = principal, _time(claims, "exp") + self._rules.leeway_s
        return principal

    def _verified(self, token: str) -> Mapping[str, Any]:
        try:
            if len(token) > _MAX_CHARACTERS:
                raise jwt.DecodeError(f"it is longer than {_MAX_CHARACTERS} characters")
            head = jwt.get_unverified_header(token)
            key = self._keys.find(head.get("kid"))
            if key is None:
                raise jwt.InvalidKeyError("its kid is unknown")
            algorithm = "RS256" if isinstance(key, RSAPublicKey) else "EdDSA"
            if head.get("alg") != algorithm:
                raise jwt.InvalidAlgorithmError(f"its alg is not that of its key; accepted: {', '.join(ALGORITHMS)}")
            return jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._rules.audience,
                issuer=self._rules.issuer,
                options={
                    "require": ["exp", "iat", "sub", "iss", "aud"],
                    "verify_exp": False,  # `_check_times` holds them against the server's clock
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise _invalid(str(error)) from error

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now, leeway_s = self._clock.now(), self._rules.leeway_s
        begins, issued, ends = (_time(claims, name) for name in ("nbf", "iat", "exp"))
        if ends <= now - leeway_s:
            raise _invalid("it has expired")
        if max(begins, issued) > now + leeway_s:
            raise _invalid("it is not valid yet")
        if not 0 < ends - issued <= self._rules.max_lifetime_s:
            raise _invalid(f"its lifetime is not within {self._rules.max_lifetime_s:g} s")


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name, 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**53:
        raise _invalid(f"{name} is no time in seconds")
    return float(value)


def _name(claims: Mapping[str, Any], claim: str, default: str | None = None) -> str:
    value = claims.get(claim, default)
    try:
        if not isinstance(value, str):
            raise _invalid(f"{claim} is no text")
        return format.read_name(value, claim)
    except errors.InvalidRequest as error:
        raise _invalid(error.message) from error


def _invalid(reason: str) -> errors.Unauthenticated:
    return errors.Unauthenticated(f"Invalid token: {reason}", code="invalid_token")
