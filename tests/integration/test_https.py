"""A server that speaks HTTPS, and keys that a client brings along."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import httpx
import pytest

from trainyard import Client
from trainyard.core.http import self_signed
from trainyard.core.processes import runfile
from trainyard.sdk.errors import ConnectionError as NoConnection
from trainyard.sdk.local_server import LocalServer

GUIDE_KEY = "test-api-key-for-development-only"
PORT = 443


def _port() -> int:
    """443 where it can be had, so that no address needs a port; else any."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError:
            return 0
    return PORT


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    directory = tmp_path_factory.mktemp("https")
    (directory / "models.yaml").write_text("models: [{name: fake/one, backend: fake}]")
    environment = {"TRAINYARD_MODELS_FILE": str(directory / "models.yaml"), "TRAINYARD_STATIC_KEYS": GUIDE_KEY}
    arguments = ("--tls-self-signed", "--port", str(_port()))
    with LocalServer(directory / "data", arguments=arguments, environment=environment) as running:
        yield running


def _base_url(server: LocalServer) -> str:
    port = httpx.URL(server.url).port
    return "https://localhost" if port in (None, PORT) else f"https://localhost:{port}"


async def test_the_client_of_the_guide_works_as_it_is_written(server: LocalServer) -> None:
    async with httpx.AsyncClient(
        base_url=_base_url(server),
        headers={"x-api-key": GUIDE_KEY},
        verify=False,  # noqa: S501 - as the guide has it
    ) as client:
        assert (await client.get("/v1/models")).json()["data"][0]["id"] == "fake/one"
        refused = await client.get("/v1/models", headers={"x-api-key": GUIDE_KEY + "x"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")


def test_equal_requests_on_one_connection_get_equal_answers(server: LocalServer) -> None:
    """Whole requests in one write: from the second on they are recognised by their head, and answered at once."""
    url = httpx.URL(server.url)
    body = json.dumps({"prompt": "one two", "model": "fake/one"}).encode()
    head = f"POST /v1/generate HTTP/1.1\r\nHost: x\r\nX-API-Key: {GUIDE_KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
    trust = ssl.create_default_context(cafile=server.ca)
    with (
        socket.create_connection((url.host, url.port or PORT), timeout=30) as plain,
        trust.wrap_socket(plain, server_hostname="localhost") as connection,
        connection.makefile("rb") as reader,
    ):
        answers = []
        for _ in range(20):
            connection.sendall(head.encode() + body)
            answers.append(_answer(reader))
        connection.sendall((head.encode() + body) * 20)
        answers += [_answer(reader) for _ in range(20)]
    assert {status for status, _, _ in answers} == {b"HTTP/1.1 200 OK"}
    assert len({answer["output"] for _, _, answer in answers}) == 1
    assert len({request_id for _, request_id, _ in answers}) == 40


def _answer(reader: BinaryIO) -> tuple[bytes, bytes, Any]:
    """Read status line, request id and body of one answer."""
    status, headers = reader.readline().strip(), {}
    while line := reader.readline().strip():
        name, _, value = line.partition(b": ")
        headers[name] = value
    return status, headers[b"x-request-id"], json.loads(reader.read(int(headers[b"content-length"])))


def test_a_client_that_trusts_the_certificate_needs_nothing_else(server: LocalServer) -> None:
    assert server.ca == server.data_dir / "tls" / "cert.pem"
    with Client(GUIDE_KEY, server.url, ca=server.ca) as client:
        assert [model["id"] for model in client.served_models()] == ["fake/one"]
        assert "".join(client.generate_stream("one two", model="fake/one")) != ""
    with Client(GUIDE_KEY, server.url) as client, pytest.raises(NoConnection, match="CERTIFICATE_VERIFY_FAILED"):
        client.served_models()


def test_commands_take_the_certificate_from_the_environment(server: LocalServer) -> None:
    command = [sys.executable, "-m", "trainyard", "models", "list", "--json", "--url", server.url, "--key", GUIDE_KEY]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRAINYARD_")}
    trusting = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment | {"TRAINYARD_CA": str(server.ca)}
    )
    assert (trusting.returncode, trusting.stderr) == (0, "")
    assert "fake/one" in trusting.stdout
    doubting = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert doubting.returncode == 7
    assert "set TRAINYARD_CA to its certificate" in doubting.stderr


def test_the_run_file_names_the_address_and_plain_http_gets_no_answer(server: LocalServer) -> None:
    found = runfile.read(server.data_dir / "run.json")
    assert found is not None
    assert found.url == server.url
    assert server.url.startswith("https://127.0.0.1:")
    with pytest.raises(httpx.TransportError):
        httpx.get(server.url.replace("https:", "http:") + "/healthz")


def test_static_keys_are_listed_beside_the_others(server: LocalServer) -> None:
    command = [sys.executable, "-m", "trainyard", "keys", "list", "--json", "--data-dir", str(server.data_dir)]
    told = subprocess.run(
        command, capture_output=True, check=True, env={**os.environ, "TRAINYARD_STATIC_KEYS": GUIDE_KEY}
    )
    listed = json.loads(told.stdout)
    assert [(key["source"], key["prefix"][:3]) for key in listed[:2]] == [("static", "tes"), ("stored", "sk-")]
    with Client(server.key, server.url, ca=server.ca) as operator:
        page = operator.list_keys()
        assert [key.source for key in page.results[:2]] == ["static", "stored"]
        assert page.results[0].id == listed[0]["id"]
    assert GUIDE_KEY not in told.stdout.decode()
    assert GUIDE_KEY not in server.log.read_text()


def test_a_renewed_certificate_is_shown_after_a_hangup(tmp_path: Path) -> None:
    both, certificate = tmp_path / "both.pem", tmp_path / "cert.pem"
    self_signed.keep(both, certificate)
    (tmp_path / "models.yaml").write_text("models: [{name: fake/one, backend: fake}]")
    environment = {
        "TRAINYARD_MODELS_FILE": str(tmp_path / "models.yaml"),
        "TRAINYARD_CA": str(certificate),
    }
    first = certificate.read_text()
    arguments = ("--tls-cert", str(both), "--tls-key", str(both))
    with LocalServer(tmp_path / "data", arguments=arguments, environment=environment, ca=certificate) as server:
        url = httpx.URL(server.url)
        address = (url.host, url.port or PORT)
        assert ssl.get_server_certificate(address) == first
        both.unlink()
        self_signed.keep(both, certificate)
        os.kill(server.pid, signal.SIGHUP)
        deadline = time.monotonic() + 30
        while (shown := ssl.get_server_certificate(address)) == first:
            assert time.monotonic() < deadline, "the old certificate is still shown"
            time.sleep(0.05)
        assert shown == certificate.read_text()
