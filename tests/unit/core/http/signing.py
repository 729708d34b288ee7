"""Tokens as LibreChat signs them."""

import json
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

NOW = 1_700_000_000

Signer = Ed25519PrivateKey | RSAPrivateKey
ED, OTHER_ED = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
RSA = generate_private_key(public_exponent=65537, key_size=2048)
SMALL_RSA = generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - to see that it is refused


def claims(**changed: object) -> dict[str, object]:
    """Make the claims of a token that is good at `NOW`; None leaves one out."""
    made = {
        "iss": "librechat",
        "aud": "codeapi",
        "sub": "65f0c0ffee",
        "tenant_id": "acme",
        "role": "USER",
        "principal_source": "librechat_jwt",
        "jti": "1",
        "auth_context_hash": "0",
        "iat": NOW,
        "nbf": NOW,
        "exp": NOW + 300,
    }
    return {name: value for name, value in {**made, **changed}.items() if value is not None}


def sign(key: Signer = ED, kid: str | None = "k1", algorithm: str | None = None, **changed: object) -> str:
    """Sign a token."""
    chosen = algorithm or ("EdDSA" if isinstance(key, Ed25519PrivateKey) else "RS256")
    return jwt.encode(claims(**changed), key, chosen, headers={} if kid is None else {"kid": kid})


def pem(key: Signer) -> bytes:
    """Write the public half."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def write_pem(path: Path, key: Signer = ED) -> Path:
    """Write it into a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pem(key))
    return path


def jwks(**keys: Signer) -> str:
    """Write public keys by their kid as a JWKS."""
    members: list[dict[str, Any]] = []
    for kid, key in keys.items():
        algorithm = jwt.get_algorithm_by_name("EdDSA" if isinstance(key, Ed25519PrivateKey) else "RS256")
        member = json.loads(type(algorithm).to_jwk(key.public_key()))
        members.append({**member, "kid": kid})
    return json.dumps({"keys": members})
