"""Base URLs and the heads of requests."""

import pytest

from trainyard.core.wire import Origin


@pytest.mark.parametrize(
    ("url", "is_tls", "host", "port", "authority", "prefix"),
    [
        ("http://far", False, "far", 80, "far", ""),
        ("http://far/v1/", False, "far", 80, "far", "/v1"),
        ("http://far:80/v1", False, "far", 80, "far", "/v1"),
        ("https://far:443/v1", True, "far", 443, "far", "/v1"),
        ("https://FAR.example:8443/a/b", True, "far.example", 8443, "far.example:8443", "/a/b"),
        ("http://far:443", False, "far", 443, "far:443", ""),
        ("http://127.0.0.1:8000/v1", False, "127.0.0.1", 8000, "127.0.0.1:8000", "/v1"),
        ("http://[::1]:8000/v1", False, "::1", 8000, "[::1]:8000", "/v1"),
        ("https://[2001:db8::1]", True, "2001:db8::1", 443, "[2001:db8::1]", ""),
        ("http://far/a b%20/(c)", False, "far", 80, "far", "/a%20b%20/(c)"),
        ("http://bücher.example/ü%20", False, "xn--bcher-kva.example", 80, "xn--bcher-kva.example", "/%C3%BC%20"),
    ],
)
def test_a_base_url_is_taken_apart_once(
    url: str, is_tls: bool, host: str, port: int, authority: str, prefix: str
) -> None:
    origin = Origin(url)
    assert (origin.is_tls, origin.host, origin.port) == (is_tls, host, port)
    assert (origin.authority, origin.prefix) == (authority, prefix)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://far",
        "far/v1",
        "http://",
        "http://user@far",
        "http://user:word@far",
        "http://far/?a=1",
        "http://far/#a",
        "http://far/\r\nX: 1",
        "http://fa r/",
        "http://far/a\tb",
        "http://far/\x00",
        "http://far:99999",
        "http://far:0",
        "http://far:x",
        "http://far:-1",
        "http://far..example",
        "http://.far",
        f"http://{'a' * 64}.example",
        "http://fa\u00a0r",  # a space, once it is prepared for the lookup
        "http://fa<r",
        "http://fa%0d%0ar",
        "http://[far]",
        "http://[::1",
        "http://[a:b]",
    ],
)
def test_what_is_no_base_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of several sources, urllib among them
        Origin(url)


def test_a_head_ends_before_the_length_of_its_body() -> None:
    head = Origin("https://far:8443/v1").head("/chat/completions", {"Authorization": "Bearer sk-1", "X-Empty": ""})
    assert head == (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: far:8443\r\nAuthorization: Bearer sk-1\r\nX-Empty: \r\n"
        b"Content-Length: "
    )


def test_a_path_keeps_its_query_and_cannot_end_its_line() -> None:
    head = Origin("http://far").head("/a b?c=d\r\nX: 1", {}, "GET")
    assert head.startswith(b"GET /a%20b?c=d%0D%0AX:%201 HTTP/1.1\r\nHost: far\r\n")


@pytest.mark.parametrize("value", ["a\r\nX: 1", "a\rb", "a\nb", "a\x00b", "\x1b", "\x7f"])
def test_a_value_that_would_end_its_line_is_refused_and_not_shown(value: str) -> None:
    with pytest.raises(ValueError, match="the header Authorization has a value that cannot be sent") as caught:
        Origin("http://far").head("/x", {"Authorization": f"sk-secret{value}"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "X:", "X Y", "X\r\nY", "Ü", "X\t"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a header has a name that cannot be sent"):
        Origin("http://far").head("/x", {name: "1"})
