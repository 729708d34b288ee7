"""Kubeconfigs: what is read of them, and what is refused with what would be right."""

import base64
import ssl
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainyard.core import errors
from trainyard.sandbox.backends.kubernetes import access


def config(user: dict[str, Any], cluster: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "current-context": "here",
        "contexts": [
            {"name": "here", "context": {"cluster": "c", "user": "u"}},
            {"name": "there", "context": {"cluster": "d", "user": "u"}},
        ],
        "clusters": [
            {"name": "c", "cluster": cluster or {"server": "http://127.0.0.1:1/"}},
            {"name": "d", "cluster": {"server": "http://127.0.0.1:2"}},
        ],
        "users": [{"name": "u", "user": user}],
    }


def written(directory: Path, content: object) -> Path:
    path = directory / "config"
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_current_context_is_taken_or_the_named_one(tmp_path: Path) -> None:
    path = written(tmp_path, config({"token": "abc"}))
    assert access.find(path, None).url == "http://127.0.0.1:1"
    assert access.find(path, "there").url == "http://127.0.0.1:2"
    assert access.find(path, None).headers() == {"Authorization": "Bearer abc"}


def test_a_token_file_is_read_anew_each_time(tmp_path: Path) -> None:
    path = written(tmp_path, config({"tokenFile": "token"}))
    (tmp_path / "token").write_text("one\n")
    found = access.find(path, None)
    assert found.headers() == {"Authorization": "Bearer one"}
    (tmp_path / "token").write_text("two\n")
    assert found.headers() == {"Authorization": "Bearer two"}


def test_a_server_that_is_not_to_be_checked_is_not(tmp_path: Path) -> None:
    cluster = {"server": "https://127.0.0.1:6443", "insecure-skip-tls-verify": True}
    found = access.find(written(tmp_path, config({"token": "abc"}, cluster)), None)
    assert found.tls is not None
    assert found.tls.verify_mode == ssl.CERT_NONE


@pytest.mark.parametrize(
    ("content", "context", "words"),
    [
        (config({"exec": {"command": "aws"}}), None, "a user by `exec` is not supported; what is: token, tokenFile"),
        (config({"username": "u", "password": "p"}), None, "a user by `username`"),
        (config({}), "nowhere", "contexts has no nowhere, only: here, there"),
        ({"kind": "Config"}, None, "is no kubeconfig"),
        ([], None, "is no kubeconfig"),
        (config({}, {"server": "https://x", "certificate-authority-data": "%%"}), None, "certificates"),
        (config({}, {"server": "https://x", "certificate-authority": "none.pem"}), None, "certificates"),
        (
            config({"client-certificate-data": base64.b64encode(b"x").decode()}, {"server": "https://x"}),
            None,
            "certificates",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, content: object, context: str | None, words: str) -> None:
    with pytest.raises(errors.ConfigError) as refused:
        access.find(written(tmp_path, content), context)
    assert words in refused.value.message
    assert not [path for path in tmp_path.iterdir() if path.name != "config"]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigError, match=r"none cannot be read"):
        access.find(tmp_path / "none", None)


def test_a_context_without_a_kubeconfig_is_refused() -> None:
    with pytest.raises(errors.ConfigError, match=r"set sandbox\.kubernetes\.kubeconfig too"):
        access.find(None, "there")


def test_a_process_outside_of_a_cluster_needs_a_kubeconfig(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigError, match="runs in no pod"):
        access.in_cluster({}, tmp_path)


@pytest.mark.parametrize(("host", "url"), [("10.0.0.1", "https://10.0.0.1:443"), ("fd00::1", "https://[fd00::1]:443")])
def test_a_pod_finds_its_api_server(tmp_path: Path, host: str, url: str) -> None:
    (tmp_path / "token").write_text("abc")
    paths = ssl.get_default_verify_paths()
    (tmp_path / "ca.crt").write_bytes(Path(str(paths.cafile or paths.openssl_cafile)).read_bytes())
    found = access.in_cluster({"KUBERNETES_SERVICE_HOST": host}, tmp_path)
    assert (found.url, found.headers()) == (url, {"Authorization": "Bearer abc"})
    assert found.tls is not None
