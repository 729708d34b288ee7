"""`RunRegistry` on SQLite and on Postgres."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from trainyard.core import errors
from trainyard.core.clock import FakeClock
from trainyard.core.db import Database
from trainyard.training.store import ArtifactRecord, RunRegistry
from trainyard.training.types import FileFacts, RunState

CONFIG = {"lora_r": 8, "learning_rate": 3e-4, "lora_target_modules": ["q_proj"]}


@pytest.fixture
def run_registry(any_database: Database, clock: FakeClock) -> RunRegistry:
    return RunRegistry(any_database, clock)


def create(registry: RunRegistry, user: str = "ann", tenant: str = "default") -> str:
    return registry.create_run(user, "org/model", CONFIG, tenant=tenant)


def test_a_created_run_is_initialized_and_readable(run_registry: RunRegistry) -> None:
    run_id = create(run_registry)
    run = run_registry.get_run(run_id)
    assert run is not None
    assert run_id.startswith("run_")
    assert len(run_id) == 20
    assert (run["user_id"], run["base_model"], run["config"]) == ("ann", "org/model", CONFIG)
    assert (run.status, run.current_step, run.durable_step) == (RunState.INITIALIZED, 0, 0)
    assert (run.created_at, run.updated_at, run.started_at, run.completed_at) == (1.7e9, 1.7e9, None, None)


def test_a_run_has_no_item_that_is_no_field(run_registry: RunRegistry) -> None:
    run = run_registry.get_run(create(run_registry))
    assert run is not None
    with pytest.raises(KeyError):
        run["__class__"]


def test_an_unknown_run_is_none_or_false_everywhere(run_registry: RunRegistry) -> None:
    unknown = "run_0000000000000000"
    assert run_registry.get_run(unknown) is None
    assert run_registry.get_metrics(unknown) is None
    assert run_registry.update_run(unknown, current_step=1) is False
    assert run_registry.delete_run(unknown, "ann") is False
    assert run_registry.list_artifacts(unknown) == []


def test_runs_are_listed_newest_first_and_for_their_owner_alone(run_registry: RunRegistry, clock: FakeClock) -> None:
    first = create(run_registry)
    clock.advance(1)
    second = create(run_registry)
    create(run_registry, "bob")
    create(run_registry, "ann", tenant="other")
    assert [run.run_id for run in run_registry.list_runs("ann")] == [second, first]
    assert run_registry.list_runs("carol") == []


def test_an_update_changes_what_is_given_and_always_the_time(run_registry: RunRegistry, clock: FakeClock) -> None:
    run_id = create(run_registry)
    clock.advance(2)
    assert run_registry.update_run(run_id, status=RunState.ACTIVE) is True
    assert run_registry.update_run(run_id, current_step=3, durable_step=2, rolled_back=(5, 3), error="why") is True
    run = run_registry.get_run(run_id)
    assert run is not None
    assert (run.status, run.current_step, run.durable_step) == (RunState.ACTIVE, 3, 2)
    assert (run.rolled_back_from, run.rolled_back_to, run.error) == (5, 3, "why")
    assert run.started_at == 1_700_000_002.0
    assert 1_700_000_002.0 < run.updated_at < 1_700_000_002.1  # the clock stood still, the time of change did not


@pytest.mark.parametrize("state", [RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED])
def test_an_ended_run_knows_when(run_registry: RunRegistry, clock: FakeClock, state: RunState) -> None:
    run_id = create(run_registry)
    clock.advance(9)
    run_registry.update_run(run_id, status=state)
    run = run_registry.get_run(run_id)
    assert run is not None
    assert (run.status, run.completed_at) == (state, 1_700_000_009.0)


def test_metrics_are_kept_in_order_with_time_and_step(run_registry: RunRegistry, clock: FakeClock) -> None:
    run_id = create(run_registry)
    assert run_registry.get_metrics(run_id) == []
    clock.advance(1)
    run_registry.update_run(run_id, current_step=1, metrics={"loss": 2.5, "grad_norm": 0.5})
    clock.advance(1)
    run_registry.update_run(run_id, metrics={"loss": float("nan"), "learning_rate": 1e-3})
    assert run_registry.get_metrics(run_id) == [
        {"timestamp": 1_700_000_001.0, "step": 1, "loss": 2.5, "grad_norm": 0.5},
        {"timestamp": 1_700_000_002.0, "step": 1, "loss": None, "learning_rate": 1e-3},
    ]


@pytest.mark.parametrize(("user", "tenant"), [("bob", "default"), ("ann", "other")])
def test_only_the_owner_deletes_a_run(run_registry: RunRegistry, user: str, tenant: str) -> None:
    run_id = create(run_registry)
    run_registry.update_run(run_id, metrics={"loss": 1.0})
    assert run_registry.delete_run(run_id, user, tenant=tenant) is False
    assert run_registry.delete_run(run_id, "ann") is True
    assert run_registry.get_run(run_id) is None
    assert run_registry.get_metrics(run_id) is None


def test_the_sixth_live_run_is_refused_and_an_ended_one_makes_room(run_registry: RunRegistry) -> None:
    made = [create(run_registry) for _ in range(5)]
    run_registry.update_run(made[0], status=RunState.ACTIVE)
    with pytest.raises(errors.LimitReached) as refused:
        create(run_registry)
    assert refused.value.code == "too_many_runs"
    assert refused.value.data == {"live_runs": 5, "max_live_runs": 5}
    create(run_registry, "bob")  # each user has his own five
    create(run_registry, "ann", tenant="other")
    run_registry.update_run(made[1], status=RunState.COMPLETED)
    create(run_registry)


def test_twenty_at_once_make_exactly_five_runs(run_registry: RunRegistry) -> None:
    def attempt(_: int) -> bool:
        try:
            create(run_registry)
        except errors.LimitReached:
            return False
        return True

    with ThreadPoolExecutor(10) as pool:
        assert sum(pool.map(attempt, range(20))) == 5
    assert len(run_registry.list_runs("ann")) == 5


def test_runs_that_were_never_opened_are_failed_with_a_reason(run_registry: RunRegistry) -> None:
    opened, unopened = create(run_registry), create(run_registry)
    run_registry.update_run(opened, status=RunState.ACTIVE)
    assert run_registry.fail_unopened("the server stopped") == [unopened]
    run = run_registry.get_run(unopened)
    assert run is not None
    assert (run.status, run.error) == (RunState.FAILED, "the server stopped")
    assert run_registry.fail_unopened("the server stopped") == []


def artifact(run_id: str, name: str, made_at: float) -> ArtifactRecord:
    manifest = {"a.bin": FileFacts(sha256="0" * 64, size=3), "b.bin": FileFacts(sha256="1" * 64, size=4)}
    return ArtifactRecord(f"art_{name}", run_id, name, "adapter", 1, manifest, 0, made_at)


def test_artifacts_are_listed_oldest_first_and_count_their_downloads(run_registry: RunRegistry) -> None:
    run_id = create(run_registry)
    late, early = artifact(run_id, "step_2", 2.0), artifact(run_id, "step_1", 1.0)
    run_registry.add_artifact(late)
    run_registry.add_artifact(early)
    assert run_registry.list_artifacts(run_id) == [early, late]
    assert early.size_bytes == 7
    run_registry.count_download(early.id)
    run_registry.count_download(early.id)
    assert [one.download_count for one in run_registry.list_artifacts(run_id)] == [2, 0]


def test_a_checkpoint_name_is_taken_once_per_run(run_registry: RunRegistry) -> None:
    run_id = create(run_registry)
    run_registry.add_artifact(artifact(run_id, "step_1", 1.0))
    with pytest.raises(errors.Conflict) as refused:
        run_registry.add_artifact(artifact(run_id, "step_1", 2.0))
    assert refused.value.code == "checkpoint_exists"


def test_a_registry_opened_again_has_everything(any_database: Database, clock: FakeClock) -> None:
    run_id = create(RunRegistry(any_database, clock))
    RunRegistry(any_database, clock).update_run(run_id, current_step=2, metrics={"loss": 1.0})
    again = RunRegistry(any_database, clock)
    found = again.get_run(run_id)
    assert found is not None
    assert found.current_step == 2
    assert [entry["loss"] for entry in again.get_metrics(run_id) or []] == [1.0]
