"""Doing a request once under its key, in one process and between several, on both databases."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import func, select, text

from trainyard.core import errors
from trainyard.core.clock import FakeClock
from trainyard.core.db import Database
from trainyard.core.db.writer import Write
from trainyard.core.idempotency import LEASE_S, Answer, Idempotency, Scope, Ticket
from trainyard.core.idempotency.store import rows

SCOPE = Scope("default", "/v1/generate", "order-1")
ANSWER = Answer(200, b'{"output":"x"}')
TTL_S = 1000.0


@pytest.fixture
async def one(any_database: Database, clock: FakeClock) -> AsyncIterator[Idempotency]:
    made = Idempotency(any_database, clock, ttl_s=TTL_S)
    yield made
    await made.aclose()


@pytest.fixture
async def other(any_database: Database, clock: FakeClock) -> AsyncIterator[Idempotency]:
    """Of another process."""
    made = Idempotency(any_database, clock, ttl_s=TTL_S)
    yield made
    await made.aclose()


async def begun(idempotency: Idempotency, scope: Scope = SCOPE, body: bytes = b"body") -> Ticket:
    made = await idempotency.begin(scope, body)
    assert isinstance(made, Ticket)
    return made


async def finish(database: Database, ticket: Ticket, answer: Answer = ANSWER) -> None:
    """What a charge does with the write."""
    write = await ticket.finishing(answer)
    await database.call(run, database, write)
    ticket.done(answer)


def run(database: Database, write: Write) -> None:
    with database.begin() as connection:
        connection.execute(text(write.sql), dict(write.parameters))


def count(database: Database) -> int:
    with database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(rows)).scalar_one())


async def test_an_answer_is_given_again_here_and_elsewhere(
    any_database: Database, one: Idempotency, other: Idempotency
) -> None:
    await finish(any_database, await begun(one))
    assert await one.begin(SCOPE, b"body") == ANSWER
    assert await other.begin(SCOPE, b"body") == ANSWER


async def test_another_body_under_the_key_is_refused_while_it_runs_and_after(
    any_database: Database, one: Idempotency, other: Idempotency
) -> None:
    ticket = await begun(one)
    for idempotency in (one, other):
        with pytest.raises(errors.Conflict) as caught:
            await idempotency.begin(SCOPE, b"another")
        assert caught.value.code == "idempotency_key_reused"
    await finish(any_database, ticket)
    for idempotency in (one, other):
        with pytest.raises(errors.Conflict):
            await idempotency.begin(SCOPE, b"another")


@pytest.mark.parametrize(
    "scope",
    [
        Scope("elsewhere", SCOPE.route, SCOPE.key),
        Scope(SCOPE.tenant, "/v1/stream", SCOPE.key),
        Scope(SCOPE.tenant, SCOPE.route, SCOPE.key, "ada"),
        Scope(SCOPE.tenant, SCOPE.route, "1", "order-"),
    ],
)
async def test_a_key_means_nothing_to_other_tenants_users_and_routes(one: Idempotency, scope: Scope) -> None:
    first = await begun(one)
    second = await begun(one, scope, b"another")
    await first.release()
    await second.release()


async def test_who_comes_meanwhile_waits_for_the_same_answer(any_database: Database, one: Idempotency) -> None:
    ticket = await begun(one)
    waiting = [asyncio.create_task(one.begin(SCOPE, b"body")) for _ in range(20)]
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in waiting)
    await finish(any_database, ticket)
    assert await asyncio.gather(*waiting) == [ANSWER] * 20


async def test_who_comes_meanwhile_to_another_process_waits_too(
    any_database: Database, one: Idempotency, other: Idempotency
) -> None:
    ticket = await begun(one)
    waiting = [asyncio.create_task(other.begin(SCOPE, b"body")) for _ in range(3)]
    await asyncio.sleep(0.05)
    await finish(any_database, ticket)
    assert await asyncio.gather(*waiting) == [ANSWER] * 3


async def test_an_error_goes_to_those_who_wait_here_and_the_next_one_tries(one: Idempotency) -> None:
    ticket = await begun(one)
    waiting = asyncio.create_task(one.begin(SCOPE, b"body"))
    await asyncio.sleep(0.01)
    await ticket.release(errors.Unavailable("away", code="engine_restarting", retry_after_s=2))
    with pytest.raises(errors.Unavailable) as caught:
        await waiting
    assert (caught.value.code, caught.value.retry_after_s) == ("engine_restarting", 2)
    await (await begun(one)).release()


async def test_when_the_holder_has_left_the_first_who_waits_does_it(any_database: Database, one: Idempotency) -> None:
    ticket = await begun(one)
    waiting = [asyncio.create_task(one.begin(SCOPE, b"body")) for _ in range(5)]
    await asyncio.sleep(0.01)
    await ticket.release()
    done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    (taken,) = [task.result() for task in done]
    assert isinstance(taken, Ticket)
    await finish(any_database, taken)
    assert await asyncio.gather(*pending) == [ANSWER] * 4


async def test_a_holder_that_died_is_followed_after_its_lease(
    any_database: Database, clock: FakeClock, one: Idempotency, other: Idempotency
) -> None:
    lost = await begun(one)
    clock.advance(LEASE_S + 1)
    taken = await begun(other)
    await finish(any_database, taken, Answer(200, b"second"))
    with pytest.raises(errors.Unavailable) as caught:
        await lost.finishing(ANSWER)
    assert caught.value.code == "idempotency_lost"
    assert await other.begin(SCOPE, b"body") == Answer(200, b"second")
    await lost.release()
    assert await other.begin(SCOPE, b"body") == Answer(200, b"second")


async def test_the_write_of_a_holder_that_was_followed_changes_nothing(
    any_database: Database, clock: FakeClock, one: Idempotency, other: Idempotency
) -> None:
    """The write may come late, from a file where it waited for the database."""
    late = await (await begun(one)).finishing(ANSWER)
    clock.advance(LEASE_S + 1)
    await finish(any_database, await begun(other), Answer(200, b"second"))
    for _ in range(2):
        await any_database.call(run, any_database, late)
    assert await other.begin(SCOPE, b"body") == Answer(200, b"second")


async def test_a_write_that_runs_twice_is_one_answer(any_database: Database, one: Idempotency) -> None:
    ticket = await begun(one)
    write = await ticket.finishing(ANSWER)
    for _ in range(2):
        await any_database.call(run, any_database, write)
    ticket.done(ANSWER)
    assert (await one.begin(SCOPE, b"body"), count(any_database)) == (ANSWER, 1)


async def test_a_lease_is_held_as_long_as_the_work_takes(
    clock: FakeClock, one: Idempotency, other: Idempotency
) -> None:
    ticket = await begun(one)
    for _ in range(5):
        clock.advance(LEASE_S / 2)
        await ticket.renew()
    waiting = asyncio.create_task(other.begin(SCOPE, b"body"))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await ticket.release()
    taken = await waiting
    assert isinstance(taken, Ticket)
    await taken.release()


async def test_a_late_holder_that_nobody_followed_may_finish(
    any_database: Database, clock: FakeClock, one: Idempotency
) -> None:
    ticket = await begun(one)
    clock.advance(LEASE_S + 1)
    await finish(any_database, ticket)
    assert await one.begin(SCOPE, b"body") == ANSWER


async def test_answers_expire_and_their_rows_go(any_database: Database, clock: FakeClock, one: Idempotency) -> None:
    await finish(any_database, await begun(one))
    clock.advance(TTL_S)
    await (await begun(one, body=b"another")).release()
    await finish(any_database, await begun(one, Scope("default", "/v1/generate", "old")))
    clock.advance(TTL_S + 61)
    ticket = await begun(one, Scope("default", "/v1/generate", "new"))
    await one.aclose()
    assert count(any_database) == 1
    await ticket.release()


@pytest.mark.parametrize("key", ["", "x" * 256, "a\nb", "schlüssel"])
async def test_a_key_is_printable_and_not_long(one: Idempotency, key: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        await one.begin(Scope("default", "/v1/generate", key), b"body")
    assert caught.value.code == "invalid_idempotency_key"


async def test_the_longest_key_is_one(one: Idempotency) -> None:
    await (await begun(one, Scope("default", "/v1/generate", "k" * 255))).release()


async def test_without_a_database_nothing_is_begun(database: Database, clock: FakeClock) -> None:
    idempotency = Idempotency(database, clock, ttl_s=TTL_S)
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE core_idempotency RENAME TO gone"))
    with pytest.raises(errors.Unavailable):
        await idempotency.begin(SCOPE, b"body")
    await idempotency.aclose()
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE gone RENAME TO core_idempotency"))
    await (await begun(idempotency)).release()


async def test_a_lease_is_renewed_while_the_work_goes_on(
    any_database: Database, clock: FakeClock, one: Idempotency
) -> None:
    """The timer of a real loop rings after a third of the lease; here it is rung by hand."""
    ticket = await begun(one)
    clock.advance(LEASE_S / 3)
    ticket._begin_renewing()
    await one.aclose()
    assert ticket.row.lease_until == clock.now() + LEASE_S
    await ticket.release()


async def test_a_database_that_is_away_at_the_renewal_loses_the_lease_at_its_end_only(
    database: Database, clock: FakeClock
) -> None:
    one = Idempotency(database, clock, ttl_s=TTL_S)
    ticket = await begun(one)
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE core_idempotency RENAME TO gone"))
    clock.advance(LEASE_S / 3)
    await ticket.renew()
    await ticket.finishing(ANSWER)
    clock.advance(LEASE_S)
    with pytest.raises(errors.Unavailable, match="held up"):
        await ticket.finishing(ANSWER)
    await ticket.release()  # the database is away, the lease ends by itself


async def test_a_key_does_not_expire_while_its_request_is_worked_on(
    any_database: Database, clock: FakeClock, one: Idempotency, other: Idempotency
) -> None:
    ticket = await begun(one)
    for _ in range(int(TTL_S / 20) + 4):  # a minute beyond its time, so that others sweep
        clock.advance(20)
        await ticket.renew()
    await (await begun(other, Scope("default", "/v1/generate", "other"))).release()
    await other.aclose()
    with pytest.raises(errors.Conflict):
        await other.begin(SCOPE, b"another body")
    asking = asyncio.create_task(other.begin(SCOPE, b"body"))
    await asyncio.sleep(0.05)
    assert not asking.done()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await ticket.release()


async def test_what_is_being_written_is_not_done_again(
    any_database: Database, one: Idempotency, other: Idempotency
) -> None:
    ticket = await begun(one)
    write = await ticket.finishing(ANSWER)
    here, elsewhere = (asyncio.create_task(each.begin(SCOPE, b"body")) for each in (one, other))
    await asyncio.sleep(0)
    ticket.leave()
    await ticket.release()
    await asyncio.sleep(0.05)
    assert (here.done(), elsewhere.done()) == (False, False)
    await any_database.call(run, any_database, write)
    assert [await here, await elsewhere] == [ANSWER, ANSWER]


async def test_who_leaves_while_he_claims_a_key_leaves_it_free(any_database: Database, one: Idempotency) -> None:
    for number in range(40):
        claiming = asyncio.create_task(one.begin(Scope("default", "/v1/generate", f"order-{number}"), b"body"))
        await asyncio.sleep(0)
        claiming.cancel()
        await asyncio.gather(claiming, return_exceptions=True)
    await one.aclose()
    assert count(any_database) == 0
