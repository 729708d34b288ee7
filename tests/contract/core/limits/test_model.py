from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.contract.core.limits import stand as stands
from tests.contract.core.limits.machine import Machine
from tests.contract.core.limits.stand import Stand
from tests.services.redis import RedisServer


def histories(count: int) -> settings:
    return settings(
        max_examples=count,
        stateful_step_count=50,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


def test_the_limiter_in_memory_says_what_the_model_says() -> None:
    class InMemory(Machine):
        def make(self, start: float) -> Stand:
            return stands.memory_stand(start)

    run_state_machine_as_test(InMemory, settings=histories(100))


def test_the_limiter_in_redis_says_what_the_model_says(redis_server: RedisServer) -> None:
    class InRedis(Machine):
        def make(self, start: float) -> Stand:
            return stands.redis_stand(redis_server.next_url(), start)

    run_state_machine_as_test(InRedis, settings=histories(40))
