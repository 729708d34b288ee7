"""Who lives, as far as a server can tell by its own clock."""

from typing import Any

import pytest

from trainyard.core.clock import FakeClock
from trainyard.sandbox.backends.kubernetes import names
from trainyard.sandbox.backends.kubernetes.api import Kind, Listed
from trainyard.sandbox.backends.kubernetes.leases import Leases

LABELS = {names.INSTALLATION: "i", names.GENERATION: "new"}


class Cluster:
    """The leases that there are; `renew` of another server changes its time, whatever that says."""

    def __init__(self) -> None:
        self.leases: dict[str, dict[str, Any]] = {}
        self.deleted: list[str] = []

    def renew(self, name: str, generation: str = "new", at: str = "") -> None:
        time = at or f"{len(str(self.leases.get(name)))}"
        metadata = {"name": name, "labels": {**LABELS, names.GENERATION: generation}}
        self.leases[name] = {"metadata": metadata, "spec": {"renewTime": time}}

    async def patch(self, kind: Kind, name: str, change: dict[str, Any]) -> dict[str, Any]:
        self.leases[name] = {"metadata": {"name": name, "labels": LABELS}, "spec": change["spec"]}
        return {}

    async def list(self, kind: Kind, labels: str = "") -> Listed:
        return Listed(list(self.leases.values()), "1")

    async def delete(self, kind: Kind, name: str) -> bool:
        self.deleted.append(name)
        return self.leases.pop(name, None) is not None


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def leases(cluster: Cluster, clock: FakeClock) -> Leases:
    client: Any = cluster
    return Leases(client, "m", LABELS, 30, clock.monotonic)


async def watch(leases: Leases, clock: FakeClock, seconds: int) -> None:
    """Look again and again, every ten seconds and at the end."""
    for passed in range(0, seconds, 10):
        clock.advance(min(10, seconds - passed))
        await leases.renew()


async def test_a_server_that_renews_lives_and_one_that_is_silent_is_dead(
    leases: Leases, cluster: Cluster, clock: FakeClock
) -> None:
    cluster.renew("a", at="1")
    cluster.renew("z", at="1")
    await leases.renew()
    assert leases.living("new") == ["a", "m", "z"]
    await watch(leases, clock, 19)
    cluster.renew("z", at="2")
    await watch(leases, clock, 11)
    assert not leases.is_dead("a")
    await watch(leases, clock, 1)
    assert [leases.is_dead(name) for name in ("a", "m", "z")] == [True, False, False]
    assert leases.living("new") == ["m", "z"]


async def test_a_clock_that_is_wrong_elsewhere_does_not_matter(
    leases: Leases, cluster: Cluster, clock: FakeClock
) -> None:
    cluster.renew("a", at="1999-01-01T00:00:00.000000Z")
    await leases.renew()
    assert not leases.is_dead("a")


@pytest.mark.parametrize("pause_s", [31, 3600])
async def test_nobody_is_dead_by_the_time_in_which_this_server_did_not_look(
    leases: Leases, cluster: Cluster, clock: FakeClock, pause_s: int
) -> None:
    cluster.renew("a", at="1")
    await leases.renew()
    await watch(leases, clock, 10)
    clock.advance(pause_s)  # it stood still, or the API server did: nobody could say that it lives
    await leases.renew()
    assert not leases.is_dead("a")
    assert leases.living("new") == ["a", "m"]
    assert not leases.is_abandoned("older")
    await watch(leases, clock, 30)
    assert not leases.is_dead("a")
    await watch(leases, clock, 1)
    assert leases.is_dead("a")


async def test_a_server_without_a_lease_is_dead_only_after_it_was_missed_for_so_long(
    leases: Leases, clock: FakeClock
) -> None:
    await leases.renew()
    assert not leases.is_dead("gone")
    await watch(leases, clock, 30)
    assert not leases.is_dead("gone")
    await watch(leases, clock, 1)
    assert leases.is_dead("gone")


async def test_a_generation_is_abandoned_when_none_of_its_servers_lives_and_there_was_time_to_see(
    leases: Leases, cluster: Cluster, clock: FakeClock
) -> None:
    cluster.renew("a", "old", at="1")
    await leases.renew()
    assert leases.living("old") == ["a"]
    assert not leases.is_abandoned("older")  # too early to tell
    await watch(leases, clock, 31)
    assert leases.is_abandoned("old")
    assert leases.is_abandoned("older")
    assert not leases.is_abandoned("new")


async def test_a_lease_that_is_silent_for_ten_times_as_long_is_deleted(
    leases: Leases, cluster: Cluster, clock: FakeClock
) -> None:
    cluster.renew("a", at="1")
    await leases.renew()
    await watch(leases, clock, 300)
    assert cluster.deleted == []
    await watch(leases, clock, 1)
    assert cluster.deleted == ["a"]
    await leases.give_up()
    assert cluster.deleted == ["a", "m"]
