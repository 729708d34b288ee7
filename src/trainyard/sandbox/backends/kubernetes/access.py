"""How the API server is reached: by a kubeconfig, or by the service account of the pod that the server runs in."""

import base64
import binascii
import contextlib
import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from trainyard.core import errors

ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a kubelet puts the token of a pod."""

_WAYS: Final = "token, tokenFile, or client-certificate with client-key"
_OTHERS: Final = ("exec", "auth-provider", "username", "as", "as-uid", "as-groups")


@dataclass(frozen=True, slots=True)
class Access:
    """Address and credentials of an API server.

    Attributes:
        url: Without a slash at its end.
        tls: None for `http://`.
        token_file: Read anew for every request, since kubelets replace it.
    """

    url: str
    tls: ssl.SSLContext | None = None
    token: str | None = None
    token_file: Path | None = None

    def headers(self) -> dict[str, str]:
        """Make those of a request; raises OSError where the token file cannot be read."""
        token = self.token if self.token_file is None else self.token_file.read_text().strip()
        return {} if token is None else {"Authorization": f"Bearer {token}"}


def find(kubeconfig: Path | None, context: str | None) -> Access:
    """Read the kubeconfig, or what the kubelet has left in this pod.

    Raises:
        errors.ConfigError: There is neither, or it asks for what is not supported.
    """
    if kubeconfig is None:
        if context is not None:
            raise _wrong(
                "sandbox.kubernetes.context names a part of a kubeconfig; set sandbox.kubernetes.kubeconfig too"
            )
        return in_cluster(os.environ, ACCOUNT)
    return read(kubeconfig, context)


def in_cluster(env: Mapping[str, str], account: Path) -> Access:
    """Read what a kubelet gives to a pod; raises errors.ConfigError where that is not all there."""
    host, port = env.get("KUBERNETES_SERVICE_HOST"), env.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not (account / "token").exists():
        raise _wrong(
            "this process runs in no pod with a service account; set sandbox.kubernetes.kubeconfig, or start it in one"
        )
    address = f"[{host}]" if ":" in host else host
    try:
        tls = ssl.create_default_context(cafile=str(account / "ca.crt"))
    except OSError as error:
        raise _wrong(f"{account / 'ca.crt'} cannot be used: {error}") from error
    return Access(f"https://{address}:{port}", tls, token_file=account / "token")


def read(path: Path, context: str | None) -> Access:
    """Read one context of a kubeconfig; raises errors.ConfigError where it cannot be used."""
    try:
        config = yaml.safe_load(path.read_text())
        wanted = context or config["current-context"]
        chosen = _named(config, "contexts", wanted)["context"]
        cluster = _named(config, "clusters", chosen["cluster"])["cluster"]
        user = _named(config, "users", chosen["user"])["user"] or {}
        url = str(cluster["server"]).rstrip("/")
    except OSError as error:
        raise _wrong(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise _wrong(f"{path} is no kubeconfig with the context {context or '(current)'}: {error}") from error
    if asked := [key for key in _OTHERS if user.get(key)]:
        raise _wrong(f"{path}: a user by `{asked[0]}` is not supported; what is: {_WAYS}", "kubeconfig")
    token_file = user.get("tokenFile")
    return Access(
        url,
        _tls(path.parent, cluster, user) if url.startswith("https://") else None,
        user.get("token"),
        path.parent / token_file if token_file else None,
    )


def _named(config: Mapping[str, Any], section: str, name: str) -> Mapping[str, Any]:
    found = next((each for each in config[section] if each["name"] == name), None)
    if found is None:
        there = ", ".join(each["name"] for each in config[section])
        raise KeyError(f"{section} has no {name}, only: {there}")
    return found  # type: ignore[no-any-return]


def _tls(folder: Path, cluster: Mapping[str, Any], user: Mapping[str, Any]) -> ssl.SSLContext:
    try:
        authority = _content(folder, cluster, "certificate-authority")
        made = ssl.create_default_context(cadata=authority.decode() if authority else None)
        if cluster.get("insecure-skip-tls-verify"):
            made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
        if (certificate := _content(folder, user, "client-certificate")) is not None:
            key = _content(folder, user, "client-key")
            _load_pair(made, certificate, key or b"")
    except (OSError, ValueError, binascii.Error) as error:
        raise _wrong(f"the certificates of the kubeconfig cannot be used: {error}") from error
    return made


def _content(folder: Path, entry: Mapping[str, Any], key: str) -> bytes | None:
    if data := entry.get(f"{key}-data"):
        return base64.b64decode(data, validate=True)
    return (folder / entry[key]).read_bytes() if entry.get(key) else None


def _load_pair(tls: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """The library reads pairs from files only, so they lie in one for a moment, which nobody else can read."""
    descriptor, name = tempfile.mkstemp()
    try:
        with contextlib.closing(os.fdopen(descriptor, "wb")) as file:
            file.write(certificate + b"\n" + key)
        tls.load_cert_chain(name)
    finally:
        Path(name).unlink()


def _wrong(message: str, name: str = "kubeconfig") -> errors.ConfigError:
    return errors.ConfigError(message, param=f"sandbox.kubernetes.{name}")
