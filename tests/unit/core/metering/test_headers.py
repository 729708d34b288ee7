import pytest

from trainyard.core import head_lines
from trainyard.core.limits.types import Amount, Reservation, Standing
from trainyard.core.metering import headers


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (-1.0, "0s"),
        (0.0004, "1ms"),
        (0.012, "12ms"),
        (0.9991, "1s"),
        (1.0, "1s"),
        (1.5, "1.5s"),
        (59.9999, "1m0s"),
        (60.0, "1m0s"),
        (360.0, "6m0s"),
        (3599.25, "59m59.25s"),
        (3600.0, "1h0m0s"),
        (7230.0, "2h0m30s"),
        (2_592_000.0, "720h0m0s"),
    ],
)
def test_durations_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    assert headers.duration(seconds) == text


def _reservation(requests: Standing | None, tokens: Standing | None) -> Reservation:
    return Reservation(id="rsv_1", subjects=(), amount=Amount(), requests=requests, tokens=tokens)


def _told(lines: bytes) -> dict[bytes, bytes]:
    return dict(head_lines.pairs(lines))


REQUESTS, TOKENS = Standing(60, 59, 1.0), Standing(1000, 970, 59.5)


def test_an_answer_without_bars_has_no_such_headers() -> None:
    assert headers.of_passed(_reservation(None, None), 60.0) == b""


def test_an_answer_tells_of_the_bars_that_there_are() -> None:
    assert _told(headers.of_passed(_reservation(REQUESTS, None), 60.0)) == {
        b"x-ratelimit-limit-requests": b"60",
        b"x-ratelimit-remaining-requests": b"59",
        b"x-ratelimit-reset-requests": b"1s",
        b"ratelimit": b'"requests";r=59;t=1',
        b"ratelimit-policy": b'"requests";q=60;w=60',
    }
    assert _told(headers.of_passed(_reservation(None, TOKENS), 0.5)) == {
        b"x-ratelimit-limit-tokens": b"1000",
        b"x-ratelimit-remaining-tokens": b"970",
        b"x-ratelimit-reset-tokens": b"59.5s",
        b"ratelimit": b'"tokens";r=970;t=60',
        b"ratelimit-policy": b'"tokens";q=1000;qu="tokens";w=1',
    }
    both = _told(headers.of_passed(_reservation(REQUESTS, TOKENS), 60.0))
    assert len(both) == 8
    assert both[b"ratelimit"] == b'"requests";r=59;t=1, "tokens";r=970;t=60'
    assert both[b"ratelimit-policy"] == b'"requests";q=60;w=60, "tokens";q=1000;qu="tokens";w=60'


@pytest.mark.parametrize(
    ("data", "retry_after_s", "expected"),
    [
        (
            {"scope": "key:a", "dimension": "requests", "limit": 60, "remaining": 0, "window_s": 60.0},
            2.5,
            {
                "RateLimit": '"requests";r=0;t=3',
                "RateLimit-Policy": '"requests";q=60;w=60',
                "x-ratelimit-limit-requests": "60",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "2.5s",
            },
        ),
        (
            {"scope": "tenant:a", "dimension": "tokens", "limit": 100, "remaining": 7, "window_s": 5.0},
            1.0,
            {
                "RateLimit": '"tokens";r=7;t=1',
                "RateLimit-Policy": '"tokens";q=100;qu="tokens";w=5',
                "x-ratelimit-limit-tokens": "100",
                "x-ratelimit-remaining-tokens": "7",
                "x-ratelimit-reset-tokens": "1s",
            },
        ),
        (
            {"dimension": "concurrency", "limit": 4, "remaining": 0, "window_s": 60.0},
            1.0,
            {
                "RateLimit": '"concurrency";r=0;t=1',
                "RateLimit-Policy": '"concurrency";q=4;qu="concurrent-requests"',
            },
        ),
        (
            {"dimension": "tokens", "limit": 500, "used": 490, "held": 3, "reset_at": 1_700_003_600},
            3600.0,
            {"RateLimit": '"monthly-tokens";r=7;t=3600', "RateLimit-Policy": '"monthly-tokens";q=500;qu="tokens"'},
        ),
        (
            {"dimension": "cost", "limit": 500, "used": 500, "reset_at": 1_700_003_600},
            None,
            {"RateLimit": '"monthly-cost";r=0', "RateLimit-Policy": '"monthly-cost";q=500;qu="micros"'},
        ),
        ({}, 1.0, {}),
        ({"limit": 5}, 1.0, {}),
        ({"dimension": "live_runs", "limit": 5}, None, {}),
    ],
)
def test_a_refusal_tells_of_the_bar_in_the_way(
    data: dict[str, object], retry_after_s: float | None, expected: dict[str, str]
) -> None:
    assert headers.of_refusal(data, retry_after_s) == expected
