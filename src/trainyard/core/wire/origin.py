"""Where requests go: everything of a base URL that requests need, worked out once."""

import re
import ssl
from collections.abc import Mapping
from functools import cache
from ipaddress import IPv6Address
from typing import Final
from urllib.parse import SplitResult, quote, urlsplit

_PORTS: Final = {"http": 80, "https": 443}
_KEPT: Final = "/%:@!$&'()*+,;=~-._"
"""Characters that a path has as they are; others are sent in percent encoding."""

_HOST: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")

_CONTROLS: Final = frozenset(chr(code) for code in (*range(0x20), 0x7F))
_NO_VALUE: Final = _CONTROLS - {"\t"}
_NO_NAME: Final = _NO_VALUE | frozenset(' \t"(),/:;<=>?@[\\]{}')


class Origin:
    """A server, as a base URL names it, and the path below which its routes are.

    Attributes:
        is_tls: Whether the scheme is https.
        host: For the lookup and the certificate; ASCII, IPv6 addresses without brackets.
        port: The scheme's own when the URL names none.
        authority: Value of the Host header.
        prefix: Path of the URL, without a slash at its end.

    Raises:
        ValueError: The URL is none of http or https, its host cannot be looked up, its port is none, or it has a user,
            query or fragment, or a control code in it.
    """

    __slots__ = ("authority", "host", "is_tls", "port", "prefix")

    def __init__(self, url: str) -> None:
        if not _CONTROLS.isdisjoint(url):
            raise ValueError("an address has no control codes")
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError("write an address such as https://host/v1")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("an address has no user, password, query or fragment")
        self.is_tls = parts.scheme == "https"
        self.host = _host(parts.hostname)
        self.port = _port(parts) or _PORTS[parts.scheme]
        shown = f"[{self.host}]" if ":" in self.host else self.host
        self.authority = shown if self.port == _PORTS[parts.scheme] else f"{shown}:{self.port}"
        self.prefix = quote(parts.path.rstrip("/"), safe=_KEPT)

    def head(self, path: str, headers: Mapping[str, str], method: str = "POST") -> bytes:
        """Write the head of a request up to the number of its Content-Length, which `Connection.ask` adds.

        Args:
            path: Below the prefix, beginning with a slash; may have a query.
            headers: Beyond Host and Content-Length.
            method: Any but HEAD and CONNECT, whose answers are framed otherwise.

        Raises:
            ValueError: A name or value would end its line, or is otherwise none.
        """
        lines = [f"{method} {self.prefix}{quote(path, safe=_KEPT + '?')} HTTP/1.1", f"Host: {self.authority}"]
        for name, value in headers.items():
            if not name or not name.isascii() or not _NO_NAME.isdisjoint(name):
                raise ValueError("a header has a name that cannot be sent")
            if not _NO_VALUE.isdisjoint(value):
                raise ValueError(f"the header {name} has a value that cannot be sent")
            lines.append(f"{name}: {value}")
        lines.append("Content-Length: ")
        return "\r\n".join(lines).encode()


def _host(name: str) -> str:
    """Write a host as it is looked up."""
    try:
        if ":" in name:
            return str(IPv6Address(name))
        host = name.encode("idna").decode()
    except ValueError:  # that of the codec tells of labels
        host = ""
    if not _HOST.fullmatch(host):
        raise ValueError("an address has a host that can be looked up, and this one cannot")
    return host


def _port(parts: SplitResult) -> int | None:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("an address has a port of 1 to 65535, or none")
    return port


@cache
def trusting() -> ssl.SSLContext:
    """Make the context that believes the certificates that this machine does; reading them takes 30 ms."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
