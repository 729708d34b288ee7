"""A certificate for this machine's own names, which nobody vouches for."""

import datetime
import ipaddress
import os
import ssl
import tempfile
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NAMES: Final = ("localhost",)
ADDRESSES: Final = ("127.0.0.1", "::1")

_LIFE: Final = datetime.timedelta(days=825)
"""The longest that Apple's clients take from anybody."""

_LEFT: Final = datetime.timedelta(days=30)
"""With less than this left, the next start makes another one."""


def keep(both: Path, certificate: Path) -> None:
    """Have a certificate and its key in a file, and the certificate alone in another.

    Args:
        both: Made when it is not there, is damaged or ends soon; 0600.
        certificate: For clients.
    """
    both.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_good(both):
        _write(both, _make(), 0o600)
    public = x509.load_pem_x509_certificate(both.read_bytes()).public_bytes(serialization.Encoding.PEM)
    if not certificate.exists() or certificate.read_bytes() != public:
        _write(certificate, public, 0o644)


def _is_good(both: Path) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(both, password="")
        found = x509.load_pem_x509_certificate(both.read_bytes())
    except (OSError, ValueError):
        return False
    return found.not_valid_after_utc - datetime.datetime.now(datetime.UTC) > _LEFT


def _make() -> bytes:
    """Make a key and its certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "trainyard, self-signed")])
    now = datetime.datetime.now(datetime.UTC)
    names = [
        *(x509.DNSName(one) for one in NAMES),
        *(x509.IPAddress(ipaddress.ip_address(address)) for address in ADDRESSES),
    ]
    identity = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # clocks differ
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identity, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identity), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return secret + made.public_bytes(serialization.Encoding.PEM)


def _write(path: Path, content: bytes, mode: int) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
