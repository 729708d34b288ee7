"""Certificates: those that are named, and the one that is made."""

import asyncio
import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from trainyard.core import errors
from trainyard.core.http import tls
from trainyard.core.settings import ServerSettings, Settings


def _pair(directory: Path, name: str, *, days: int = 90, passphrase: bytes | None = None) -> tuple[Path, Path]:
    """Write a certificate for `localhost` and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    lock = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
    paths = directory / f"{name}.crt", directory / f"{name}.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(secret)
    return paths


def _named(certificate: Path, key: Path, data: Path) -> Settings:
    return Settings(data_dir=data, server=ServerSettings(tls_cert=certificate, tls_key=key))


def _self_signed(data: Path) -> Settings:
    return Settings(data_dir=data, server=ServerSettings(tls_self_signed=True))


async def _greeted(server: ssl.SSLContext, name: str, ca: Path) -> str:
    """Connect as somebody who believes `ca`; gives the common name of what the server shows."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        client = ssl.create_default_context(cafile=ca)
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=name)
        shown = writer.get_extra_info("peercert")
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        writer.close()
        await writer.wait_closed()
    return str(dict(part[0] for part in shown["subject"])["commonName"])


def test_without_settings_for_it_http_is_spoken(tmp_path: Path) -> None:
    assert tls.prepare(Settings(data_dir=tmp_path)) is None
    assert tls.context(Settings(data_dir=tmp_path)) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
async def test_the_certificate_that_is_made_is_good_for_this_machines_own_names(name: str, tmp_path: Path) -> None:
    own = tls.prepare(_self_signed(tmp_path))
    assert own == tmp_path / "tls" / "cert.pem"
    context = tls.context(_self_signed(tmp_path))
    assert context is not None
    assert await _greeted(context, name, own) == "trainyard, self-signed"


async def test_it_is_good_for_no_other_name(tmp_path: Path) -> None:
    own, context = tls.prepare(_self_signed(tmp_path)), tls.context(_self_signed(tmp_path))
    assert own is not None
    assert context is not None
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        await _greeted(context, "yard.example", own)


def test_it_is_kept_and_its_key_is_the_servers_alone(tmp_path: Path) -> None:
    tls.prepare(_self_signed(tmp_path))
    both, own = tmp_path / "tls" / "server.pem", tmp_path / "tls" / "cert.pem"
    before = both.read_bytes()
    own.unlink()
    tls.prepare(_self_signed(tmp_path))
    assert both.read_bytes() == before
    assert both.stat().st_mode & 0o777 == 0o600
    assert own.read_bytes() in before
    assert b"PRIVATE" not in own.read_bytes()


@pytest.mark.parametrize("damage", ["ends soon", "cut", "of another key", "empty"])
def test_it_is_made_anew_when_it_is_of_no_use(damage: str, tmp_path: Path) -> None:
    tls.prepare(_self_signed(tmp_path))
    both = tmp_path / "tls" / "server.pem"
    soon, key = _pair(tmp_path, "soon", days=29)
    contents = {
        "ends soon": key.read_bytes() + soon.read_bytes(),
        "cut": both.read_bytes()[:-200],
        "of another key": key.read_bytes() + (tmp_path / "tls" / "cert.pem").read_bytes(),
        "empty": b"",
    }
    both.write_bytes(contents[damage])
    tls.prepare(_self_signed(tmp_path))
    assert both.read_bytes() != contents[damage]
    assert tls.context(_self_signed(tmp_path)) is not None
    assert (tmp_path / "tls" / "cert.pem").read_bytes() in both.read_bytes()


async def test_a_certificate_that_is_named_is_shown(tmp_path: Path) -> None:
    certificate, key = _pair(tmp_path, "mine")
    context = tls.context(_named(certificate, key, tmp_path))
    assert context is not None
    assert await _greeted(context, "localhost", certificate) == "mine"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("no file", r"server\.tls_cert: .*No such file"),
        ("no certificate", r"server\.tls_cert: .*are no certificate with its key"),
        ("another's key", r"(?i)key values mismatch"),
        ("encrypted", r"the key is encrypted; write it down without a passphrase"),
    ],
)
def test_what_cannot_be_used_is_refused_before_the_start(fault: str, message: str, tmp_path: Path) -> None:
    certificate, key = _pair(tmp_path, "mine", passphrase=b"word" if fault == "encrypted" else None)
    if fault == "no file":
        certificate.unlink()
    elif fault == "no certificate":
        certificate.write_text("nonsense")
    elif fault == "another's key":
        key = _pair(tmp_path, "other")[1]
    with pytest.raises(errors.ConfigError, match=message) as refused:
        tls.prepare(_named(certificate, key, tmp_path))
    assert refused.value.param == "server.tls_cert"


async def test_a_renewed_certificate_is_shown_from_the_next_connection_on(tmp_path: Path) -> None:
    certificate, key = _pair(tmp_path, "first")
    named = _named(certificate, key, tmp_path)
    context = tls.context(named)
    assert context is not None
    first = tmp_path / "kept.crt"
    first.write_bytes(certificate.read_bytes())
    second = _pair(tmp_path, "second")

    certificate.write_bytes(second[0].read_bytes())  # and not yet its key
    with pytest.raises(errors.ConfigError):
        tls.renew(context, named)
    assert await _greeted(context, "localhost", first) == "first"

    key.write_bytes(second[1].read_bytes())
    tls.renew(context, named)
    assert await _greeted(context, "localhost", second[0]) == "second"
