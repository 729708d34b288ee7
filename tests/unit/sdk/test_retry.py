import httpx
import pytest

from tests.unit.sdk.wire import Wire, asynchronous, blocking
from trainyard.sdk import RetryPolicy, errors, training_calls
from trainyard.sdk.call import Call

RESTARTING = httpx.Response(503, json={"error": "restarting", "code": "engine_restarting"})
LIMITED = httpx.Response(429, json={"error": "slow down"}, headers={"retry-after": "0"})
FULL = httpx.Response(429, json={"error": "five live runs"})
BROKEN = httpx.Response(500, json={"error": "broken"})
MODELS = httpx.Response(200, json={"models": ["a/b"]})
LOSS = httpx.Response(200, json={"loss": 1.0})

READ: Call[list[str]] = training_calls.models()


@pytest.mark.parametrize("failure", [RESTARTING, LIMITED, httpx.ConnectError("refused")])
def test_a_read_is_repeated_after_a_passing_failure(failure: httpx.Response | Exception) -> None:
    wire = Wire(failure, failure, MODELS)
    with blocking(wire) as client:
        assert client.models() == ["a/b"]
    assert len(wire.requests) == 3


async def test_the_async_client_repeats_too() -> None:
    wire = Wire(RESTARTING, LIMITED, MODELS)
    async with asynchronous(wire) as client:
        assert await client.models() == ["a/b"]
    assert len(wire.requests) == 3


@pytest.mark.parametrize("failure", [RESTARTING, BROKEN, FULL, httpx.ConnectError("gone"), httpx.ReadTimeout("slow")])
def test_forward_backward_is_never_repeated_blindly(failure: httpx.Response | Exception) -> None:
    wire = Wire(failure, LOSS)
    with blocking(wire) as client, pytest.raises(errors.TrainyardAPIError):
        client.forward_backward("r", [{"text": "a"}], accumulate=True)
    assert len(wire.requests) == 1


def test_forward_backward_is_repeated_when_a_limit_refused_it_before_any_work() -> None:
    wire = Wire(LIMITED, LOSS)
    with blocking(wire) as client:
        assert client.forward_backward("r", [{"text": "a"}]).loss == 1.0
    assert len(wire.requests) == 2


@pytest.mark.parametrize("failure", [BROKEN, FULL, httpx.ReadTimeout("slow")])
def test_even_a_read_is_not_repeated_after_other_failures(failure: httpx.Response | Exception) -> None:
    wire = Wire(failure, MODELS)
    with blocking(wire) as client, pytest.raises(errors.TrainyardAPIError):
        client.models()
    assert len(wire.requests) == 1


def test_patience_ends_after_four_tries() -> None:
    wire = Wire(RESTARTING)
    with blocking(wire) as client, pytest.raises(errors.ServerError):
        client.models()
    assert len(wire.requests) == 4


# 0.25 s doubles with each try; a Retry-After takes its place; above 30 s the caller decides
@pytest.mark.parametrize(
    ("attempt", "after_s", "pause_s"),
    [(1, None, 0.25), (2, None, 0.5), (3, None, 1.0), (4, None, None), (1, 7.0, 7.0), (1, 30.0, 30.0), (1, 31.0, None)],
)
def test_pauses(attempt: int, after_s: float | None, pause_s: float | None) -> None:
    away = errors.ServerError("restarting", 503, code="engine_restarting", retry_after_s=after_s)
    assert RetryPolicy().pause_s(READ, away, attempt) == pause_s


def test_one_attempt_means_no_retry() -> None:
    away = errors.ServerError("restarting", 503, code="engine_restarting")
    assert RetryPolicy(attempts=1).pause_s(READ, away, 1) is None
