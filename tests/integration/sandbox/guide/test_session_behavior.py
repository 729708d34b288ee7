"""Sessions: continued by id or by entity, apart from each other."""

import asyncio

import httpx

from tests.integration.sandbox.guide.conftest import execute, unique


async def test_without_a_session_every_run_begins_one(api_client: httpx.AsyncClient) -> None:
    one, two = await execute(api_client, "x = 1"), await execute(api_client, "print('x' in globals())")
    assert two["stdout"] == "False\n"
    assert one["session_id"] != two["session_id"]


async def test_an_entity_continues_its_session(api_client: httpx.AsyncClient) -> None:
    entity = unique()
    begun = await execute(api_client, "x = 5", entity_id=entity)
    again = await execute(api_client, "print(x)", entity_id=entity)
    assert (again["session_id"], again["stdout"], again["runtime_status"]) == (begun["session_id"], "5\n", "reused")


async def test_files_of_a_session_stay(api_client: httpx.AsyncClient) -> None:
    begun = await execute(api_client, "open('kept.txt', 'w').write('yes')")
    again = await execute(api_client, "print(open('kept.txt').read())", session_id=begun["session_id"])
    assert again["stdout"] == "yes\n"


async def test_runs_of_one_session_take_turns(api_client: httpx.AsyncClient) -> None:
    begun = await execute(api_client, "n = 0")
    code = "import time\nseen = n\ntime.sleep(0.02)\nn = seen + 1"
    await asyncio.gather(*(execute(api_client, code, session_id=begun["session_id"]) for _ in range(5)))
    assert (await execute(api_client, "print(n)", session_id=begun["session_id"]))["stdout"] == "5\n"


async def test_a_session_is_listed_and_can_be_removed(api_client: httpx.AsyncClient) -> None:
    begun = (await execute(api_client, "x = 1"))["session_id"]
    assert begun in [one["session_id"] for one in (await api_client.get("/sessions")).json()["sessions"]]
    assert (await api_client.delete(f"/sessions/{begun}")).status_code == 204
    gone = await api_client.post("/exec", json={"lang": "py", "code": "1", "session_id": begun})
    assert gone.status_code == 404


async def test_a_reset_forgets_variables_and_keeps_files(api_client: httpx.AsyncClient) -> None:
    begun = (await execute(api_client, "x = 1\nopen('f', 'w').write('1')"))["session_id"]
    assert (await api_client.post(f"/sessions/{begun}/reset")).status_code == 204
    ended = await execute(api_client, "import os\nprint('x' in globals(), os.listdir())", session_id=begun)
    assert ended["stdout"] == "False ['f']\n"


async def test_a_run_can_be_interrupted_and_its_variables_stay(api_client: httpx.AsyncClient) -> None:
    session = (await execute(api_client, "x = 7"))["session_id"]
    running = asyncio.create_task(execute(api_client, "import time\nwhile True: time.sleep(0.01)", session_id=session))
    async with asyncio.timeout(30):
        while not (await api_client.post(f"/sessions/{session}/interrupt")).json()["interrupted"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    ended = await running
    assert (ended["reason"], "KeyboardInterrupt" in ended["stderr"]) == ("interrupted", True)
    assert (await execute(api_client, "print(x)", session_id=session))["stdout"] == "7\n"
