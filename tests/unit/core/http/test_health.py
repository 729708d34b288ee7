import asyncio
import time

import pytest
from starlette.testclient import TestClient

import trainyard
from trainyard.core import errors
from trainyard.core.http.application import HttpParts
from trainyard.core.http.health import Readiness


def test_the_root_names_the_service(stranger: TestClient) -> None:
    assert stranger.get("/").json() == {"name": "trainyard", "version": trainyard.__version__, "status": "running"}


def test_health_has_the_fields_of_all_seeds_and_no_secrets(stranger: TestClient) -> None:
    assert stranger.get("/health").json() == {
        "status": "healthy",
        "service": "trainyard",
        "version": trainyard.__version__,
        "config": {
            "database": "sqlite",
            "device": "auto",
            "max_body_bytes": 2048,
            "max_live_runs_per_user": 5,
            "models": 1,
        },
    }


def test_a_server_whose_dependencies_work_is_ready(stranger: TestClient) -> None:
    answer = stranger.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready", "checks": {"database": {"ok": True}}})


def test_one_broken_dependency_makes_it_503_and_is_named(stranger: TestClient, parts: HttpParts) -> None:
    async def broken() -> None:
        raise errors.Unavailable("engine restarting")

    parts.readiness.register("engine", broken)
    answer = stranger.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {
        "status": "not_ready",
        "checks": {"database": {"ok": True}, "engine": {"ok": False, "reason": "engine restarting"}},
    }


async def test_a_probe_that_hangs_is_broken_after_its_time_and_holds_nobody_up() -> None:
    readiness = Readiness(timeout_s=0.05)

    async def hangs() -> None:
        await asyncio.sleep(60)

    for name in ("a", "b", "c"):
        readiness.register(name, hangs)
    began = time.monotonic()
    checks = await readiness.check()
    assert time.monotonic() - began < 1  # one after the other would also pass; the next test tells them apart
    assert checks == {name: {"ok": False, "reason": "no answer within 0.05 s"} for name in ("a", "b", "c")}


async def test_probes_run_at_the_same_time() -> None:
    readiness, both = Readiness(), asyncio.Barrier(2)
    readiness.register("a", both.wait)
    readiness.register("b", both.wait)
    assert all(check["ok"] for check in (await readiness.check()).values())


async def test_the_words_of_foreign_errors_are_not_shown() -> None:
    async def fails() -> None:
        raise OSError("connect to 10.0.0.1 with password hunter2")

    readiness = Readiness()
    readiness.register("x", fails)
    assert await readiness.check() == {"x": {"ok": False, "reason": "OSError"}}


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/health", "/metrics"])
def test_health_answers_while_the_database_is_away(stranger: TestClient, parts: HttpParts, path: str) -> None:
    async def away() -> None:
        raise errors.Unavailable("away", code="database_unavailable")

    parts.readiness.register("database", away)
    assert stranger.get(path).status_code == (503 if path == "/readyz" else 200)
