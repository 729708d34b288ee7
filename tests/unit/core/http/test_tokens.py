import json
from pathlib import Path

import jwt
import pytest

from tests.unit.core.http import signing
from tests.unit.core.http.signing import ED, NOW, OTHER_ED, RSA, SMALL_RSA, sign
from trainyard.core import errors
from trainyard.core.clock import FakeClock
from trainyard.core.http.public_keys import PublicKeys
from trainyard.core.http.tokens import Tokens, looks_like_token
from trainyard.core.settings import SandboxJwt


def tokens(path: Path, **rules: object) -> Tokens:
    return Tokens(SandboxJwt.model_validate({"keys": path, **rules}), FakeClock(NOW))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    signing.write_pem(tmp_path / "keys" / "k1.pem", ED)
    return signing.write_pem(tmp_path / "keys" / "rsa-2026.pem", RSA).parent


@pytest.fixture
def known(folder: Path) -> Tokens:
    return tokens(folder)


def test_a_token_tells_user_and_tenant_and_may_execute_and_no_more(known: Tokens) -> None:
    principal = known.read(sign())
    assert (principal.tenant, principal.user) == ("acme", "65f0c0ffee")
    assert set(principal.scopes) == {"execute"}


def test_one_user_has_one_id_and_another_tenant_another(known: Tokens) -> None:
    first, again, other = known.read(sign()), known.read(sign(jti="2")), known.read(sign(tenant_id="globex"))
    assert first.key_id == again.key_id != other.key_id
    assert len(first.key_id) <= 40  # what the ledger has room for


def test_without_a_tenant_it_is_librechats_own(known: Tokens) -> None:
    assert known.read(sign(tenant_id=None)).tenant == "legacy"


def test_rs256_is_taken_as_well(known: Tokens) -> None:
    assert known.read(sign(RSA, "rsa-2026")).user == "65f0c0ffee"


@pytest.mark.parametrize(
    "changed",
    [
        {"exp": NOW + 1, "iat": NOW - 299},
        {"exp": NOW - 29, "iat": NOW - 300},  # within the 30 s that clocks may differ
        {"iat": NOW + 29, "nbf": NOW + 29, "exp": NOW + 300},
        {"nbf": None},
        {"aud": ["other", "codeapi"]},
        {"iat": NOW + 0.5},
    ],
)
def test_tokens_at_the_edge_of_what_is_allowed(known: Tokens, changed: dict[str, object]) -> None:
    assert known.read(sign(**changed)).tenant == "acme"  # type: ignore[arg-type]


REFUSED = [
    (sign(exp=NOW - 31, iat=NOW - 200), "expired"),
    (sign(iat=NOW + 31, exp=NOW + 100), "not valid yet"),
    (sign(nbf=NOW + 31), "not valid yet"),
    (sign(exp=NOW + 301), "lifetime"),
    (sign(exp=NOW, iat=NOW), "lifetime"),
    (sign(iss="evil"), "issuer"),
    (sign(aud="other"), "udience"),
    (sign(aud=None), "aud"),
    (sign(iss=None), "iss"),
    (sign(sub=None), "sub"),
    (sign(exp=None), "exp"),
    (sign(iat=None), "iat"),
    (sign(exp="soon"), "exp"),
    (sign(nbf=True), "nbf"),
    (sign(sub=""), "sub"),
    (sign(sub="../root"), "sub"),
    (sign(tenant_id=""), "tenant_id"),
    (sign(tenant_id=7), "tenant_id"),
    (sign(tenant_id="a b"), "tenant_id"),
    (sign(OTHER_ED), "ignature"),
    (sign(kid="unknown"), "kid"),
    (sign(kid=None), "kid"),
    (sign(kid="../k1"), "kid"),
    (sign(RSA, "k1"), "alg"),
    (sign(ED, "rsa-2026"), "alg"),
    (sign(RSA, "rsa-2026", "RS512"), "alg"),
    (sign(RSA, "rsa-2026", "PS256"), "alg"),
    (jwt.encode(signing.claims(), "", "none", headers={"kid": "k1"}), "alg"),
    ("eyJ.a.b", "Invalid token"),
    ("eyJhbGciOiJFZERTQSJ9.e30.", "kid"),
    ("eyJ" + "a" * 9000 + ".b.c", "longer"),
]
"""Signed anew in every process: rows go by their number."""


@pytest.mark.parametrize(("token", "reason"), REFUSED, ids=range(len(REFUSED)))
def test_whatever_else_is_refused_with_its_reason(known: Tokens, token: str, reason: str) -> None:
    with pytest.raises(errors.Unauthenticated, match=reason) as refused:
        known.read(token)
    assert refused.value.code == "invalid_token"


def test_the_public_key_as_a_shared_secret_is_refused(known: Tokens) -> None:
    """Signs with HMAC under the public key, which everybody may know: the classic confusion of algorithms."""
    head = jwt.utils.base64url_encode(b'{"alg":"HS256","typ":"JWT","kid":"rsa-2026"}')
    body = sign(RSA, "rsa-2026").split(".")[1].encode()
    digest = jwt.get_algorithm_by_name("HS256")
    made = digest.compute_hash_digest(signing.pem(RSA))
    token = b".".join([head, body, jwt.utils.base64url_encode(made)]).decode()
    with pytest.raises(errors.Unauthenticated, match="alg"):
        known.read(token)


def test_other_rules_hold_where_they_are_set(folder: Path) -> None:
    strict = tokens(folder, issuer="chat.acme", audience="yard", leeway_s=0, max_lifetime_s=60)
    assert strict.read(sign(iss="chat.acme", aud="yard", exp=NOW + 60)).tenant == "acme"
    for token in (sign(iss="chat.acme", exp=NOW + 60), sign(aud="yard", iss="chat.acme", exp=NOW + 61)):
        with pytest.raises(errors.Unauthenticated):
            strict.read(token)


def test_without_a_file_there_are_no_tokens() -> None:
    with pytest.raises(errors.ConfigError, match=r"sandbox\.jwt\.keys"):
        Tokens(SandboxJwt(), FakeClock())


def test_a_token_is_told_from_a_key_by_its_form() -> None:
    assert looks_like_token(sign())
    assert not looks_like_token("sk-" + "a" * 43)
    assert not looks_like_token("eyJ")


# ---------------------------------------------------------------- where public keys lie


def test_one_pem_file_is_good_for_every_kid(tmp_path: Path) -> None:
    known = tokens(signing.write_pem(tmp_path / "librechat.pem"))
    assert known.read(sign(kid="whatever")).tenant == "acme"
    assert known.read(sign(kid=None)).tenant == "acme"


def test_a_jwks_names_its_keys_and_what_is_not_for_signatures_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    more = '{"keys": [{"kty": "EC", "kid": "e"}, {"kty": "RSA", "use": "enc", "kid": "x"}, '
    path.write_text(signing.jwks(a=ED, b=RSA).replace('{"keys": [', more))
    known = tokens(path)
    assert known.read(sign(ED, "a")).tenant == known.read(sign(RSA, "b")).tenant == "acme"
    with pytest.raises(errors.Unauthenticated, match="kid"):
        known.read(sign(ED, "k1"))


def test_an_rsa_key_that_is_too_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigError, match="2048"):
        PublicKeys(signing.write_pem(tmp_path / "key.pem", SMALL_RSA))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("key.pem", b"nonsense"),
        ("keys.json", b'{"keys": []}'),
        ("keys.json", b'{"keys": [{"kty": "OKP"}]}'),
        ("keys.json", b'{"keys": [{"kty": "OKP", "kid": "a", "crv": "Ed25519", "x": "!"}]}'),
        ("keys.json", b'{"no": 1}'),
        ("keys.json", b"{"),
    ],
)
def test_what_holds_no_usable_key_is_an_error_of_the_configuration(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(errors.ConfigError, match="JWKS file, a directory") as refused:
        PublicKeys(path)
    assert refused.value.param == "sandbox.jwt.keys"


def test_a_private_key_is_refused_even_where_it_would_do(tmp_path: Path) -> None:
    member = {**json.loads(type(jwt.get_algorithm_by_name("EdDSA")).to_jwk(ED)), "kid": "a"}
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [member]}))
    with pytest.raises(errors.ConfigError, match="public"):
        PublicKeys(path)


def test_no_file_and_an_empty_folder_are_errors_of_the_configuration(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.pem"):
        with pytest.raises(errors.ConfigError, match="no key"):
            PublicKeys(path)


def test_a_key_that_is_added_counts_with_the_next_token_and_one_that_is_removed_no_more(
    folder: Path, known: Tokens
) -> None:
    with pytest.raises(errors.Unauthenticated):
        known.read(sign(OTHER_ED, "k2"))
    signing.write_pem(folder / "k2.pem", OTHER_ED)
    assert known.read(sign(OTHER_ED, "k2")).tenant == "acme"
    (folder / "k2.pem").unlink()
    with pytest.raises(errors.Unauthenticated):
        known.read(sign(OTHER_ED, "k2"))


def test_a_file_that_is_half_written_leaves_its_keys_until_it_is_whole(folder: Path, known: Tokens) -> None:
    assert known.read(sign()).tenant == "acme"
    (folder / "k1.pem").write_bytes(b"-----BEGIN PUBLIC")
    assert known.read(sign()).tenant == "acme"
    signing.write_pem(folder / "k1.pem", OTHER_ED)
    assert known.read(sign(OTHER_ED)).tenant == "acme"
    with pytest.raises(errors.Unauthenticated):
        known.read(sign(ED))


def test_a_file_name_that_can_be_no_kid_is_refused(tmp_path: Path) -> None:
    signing.write_pem(tmp_path / "a key.pem")
    with pytest.raises(errors.ConfigError, match="name"):
        PublicKeys(tmp_path)


def test_a_token_that_is_known_still_expires_and_ends_with_its_key(folder: Path) -> None:
    clock = FakeClock(NOW)
    known = Tokens(SandboxJwt(keys=folder), clock)
    token = sign()
    first = known.read(token)
    clock.advance(329)
    assert known.read(token) is first
    clock.advance(1)
    with pytest.raises(errors.Unauthenticated, match="expired"):
        known.read(token)
    fresh = sign(iat=NOW + 330, nbf=NOW + 330, exp=NOW + 600)
    known.read(fresh)
    (folder / "k1.pem").unlink()
    with pytest.raises(errors.Unauthenticated, match="kid"):
        known.read(fresh)
