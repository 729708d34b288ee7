from pathlib import Path

import pytest

from trainyard.sdk import AsyncClient, Client

Pair = tuple[str | None, str | None]


@pytest.mark.parametrize(
    ("variables", "given", "expected"),
    [
        ((None, None), (None, None), ("http://127.0.0.1:8000", None)),
        (("http://env/", "sk-env"), (None, None), ("http://env", "sk-env")),
        (("http://env", "sk-env"), ("http://arg///", "sk-arg"), ("http://arg", "sk-arg")),
        (("", ""), ("", ""), ("http://127.0.0.1:8000", None)),
    ],
)
def test_arguments_win_over_the_environment(
    monkeypatch: pytest.MonkeyPatch, variables: Pair, given: Pair, expected: Pair
) -> None:
    for name, value in zip(("TRAINYARD_URL", "TRAINYARD_API_KEY"), variables, strict=True):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    with Client(base_url=given[0], api_key=given[1]) as client:
        assert (client.base_url, client.api_key) == expected
        assert ("authorization" in client.session.headers) is (expected[1] is not None)


async def test_the_async_client_reads_it_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_URL", "http://env/")
    async with AsyncClient("sk-arg") as client:
        assert (client.base_url, client.api_key) == ("http://env", "sk-arg")


def test_the_package_offers_the_clients_without_importing_them() -> None:
    import trainyard

    assert trainyard.Client is Client
    assert trainyard.AsyncClient is AsyncClient
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = trainyard.Nothing


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_without_certificates_is_named(tmp_path: Path, content: str | None) -> None:
    trusted = tmp_path / "ca.pem"
    if content is not None:
        trusted.write_text(content)
    with pytest.raises(OSError, match=r"ca\.pem holds no certificates to trust"):
        Client("sk-arg", ca=trusted)
