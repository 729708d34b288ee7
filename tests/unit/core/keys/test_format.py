import hmac
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainyard.core import errors
from trainyard.core.keys import derive_pepper, format
from trainyard.core.principal import SCOPES


def test_a_key_is_sk_and_43_url_safe_characters() -> None:
    assert re.fullmatch(r"sk-[A-Za-z0-9_-]{43}", format.mint())
    assert len({format.mint() for _ in range(100)}) == 100


def test_minted_keys_are_canonical_in_both_forms() -> None:
    key = format.mint()
    assert format.canonical(key) == format.canonical("tml-" + key[3:]) == key


@pytest.mark.parametrize(
    "text", [None, "", 7, b"sk-", "sk-", "sk-" + "a" * 42, "sk-" + "a" * 44, "pk-" + "a" * 43, "sk-" + "ä" * 43, " sk-"]
)
def test_what_is_no_key_is_none(text: object) -> None:
    assert format.canonical(text) is None


@given(st.text())
def test_no_text_breaks_the_reading_of_keys(text: str) -> None:
    found = format.canonical(text)
    assert found is None or re.fullmatch(r"sk-[A-Za-z0-9_-]{43}", found)


def test_the_digest_is_hmac_sha_256() -> None:
    # RFC 4231, test case 2: key "Jefe", data "what do ya want for nothing?"
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert format.digest("what do ya want for nothing?", b"Jefe") == expected


@given(st.text(), st.binary(max_size=200))
def test_the_digest_of_any_pepper_is_that_of_the_standard_library(key: str, pepper: bytes) -> None:
    raw = key.encode(errors="ignore")
    assert format.digest(raw.decode(), pepper) == hmac.new(pepper, raw, "sha256").hexdigest()


def test_the_pepper_depends_on_the_secret_and_not_on_its_line_end() -> None:
    assert derive_pepper(b"secret\n") == derive_pepper(b"secret") != derive_pepper(b"other")
    assert len(derive_pepper(b"secret")) == 32


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("train", {"train"}),
        ("train, generate", {"train", "generate"}),
        (["admin"], {"admin"}),
        ("all", set(SCOPES)),
        (["train", "all"], set(SCOPES)),
    ],
)
def test_scopes_are_read_as_people_write_them(written: str | list[str], read: set[str]) -> None:
    assert format.read_scopes(written) == read


@pytest.mark.parametrize(
    ("written", "says"), [("", "no scope given"), ([], "no scope given"), ("trian", "unknown scope 'trian'")]
)
def test_bad_scopes_are_refused_with_the_valid_ones(written: str | list[str], says: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=f"{says}; valid scopes: train, generate") as caught:
        format.read_scopes(written)
    assert caught.value.param == "scopes"


@pytest.mark.parametrize("name", ["ada", "ada@example.org", "team+bot", "_x", "a" * 128])
def test_usual_names_are_usable(name: str) -> None:
    assert format.read_name(name, "user") == name


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a b", "a\n", "ä", "a" * 129, "../x"])
def test_names_that_could_become_paths_or_lines_are_refused(name: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="user") as caught:
        format.read_name(name, "user")
    assert caught.value.param == "user"
