"""Running code: the guide's own examples first."""

import httpx
import pytest

from tests.integration.sandbox.guide.conftest import execute, unique


@pytest.mark.asyncio
async def test_execute_python(api_client: httpx.AsyncClient) -> None:
    response = await api_client.post(
        "/exec", json={"lang": "py", "code": "print(1+1)", "entity_id": unique(), "user_id": "test"}
    )
    assert response.status_code == 200
    data = response.json()
    assert data["stdout"] == "2\n"


async def test_the_sample_code_of_the_guide_runs(api_client: httpx.AsyncClient, sample_python_code: str) -> None:
    ended = await execute(api_client, sample_python_code)
    assert (ended["stdout"], ended["stderr"], ended["exit_code"]) == ("Hello, World!\n", "", 0)


async def test_both_streams_stay_apart_also_when_the_code_succeeds(api_client: httpx.AsyncClient) -> None:
    ended = await execute(api_client, "import sys\nprint('out')\nprint('err', file=sys.stderr)")
    assert (ended["stdout"], ended["stderr"], ended["exit_code"]) == ("out\n", "err\n", 0)


async def test_code_that_fails_is_an_answer_with_its_traceback(api_client: httpx.AsyncClient) -> None:
    ended = await execute(api_client, "print('before')\n1/0")
    assert (ended["stdout"], ended["exit_code"]) == ("before\n", 1)
    assert "ZeroDivisionError: division by zero" in ended["stderr"]


async def test_arguments_standard_input_and_environment_reach_the_code(api_client: httpx.AsyncClient) -> None:
    code = "import os, sys\nprint(sys.argv[1:], sys.stdin.read(), os.environ['COLOUR'])"
    ended = await execute(api_client, code, args=["a", "b c"], stdin="typed", env={"COLOUR": "blue"})
    assert ended["stdout"] == "['a', 'b c'] typed blue\n"


async def test_the_last_value_and_a_figure_come_back(api_client: httpx.AsyncClient) -> None:
    ended = await execute(api_client, "import matplotlib.pyplot as plt\nplt.plot([1, 3])\nlen('abc')")
    kinds = [(one["output_type"], sorted(one["data"])) for one in ended["results"]]
    assert ("execute_result", ["text/plain"]) in kinds
    assert any("image/png" in mimes for _, mimes in kinds)
    assert [file["name"] for file in ended["files"]] == ["figure-1.png"]


async def test_complex_code_runs(api_client: httpx.AsyncClient) -> None:
    code = "import numpy as np, pandas as pd\nprint(pd.DataFrame({'a': np.arange(4)}).a.sum())"
    assert (await execute(api_client, code))["stdout"] == "6\n"


async def test_every_language_that_is_listed_runs(api_client: httpx.AsyncClient) -> None:
    listed = {one["code"] for one in (await api_client.get("/languages")).json()["languages"]}
    hello = {"py": "print('hi')", "bash": "echo hi", "js": "console.log('hi')", "php": '<?php echo "hi\\n";'}
    assert {"py", "bash"} <= listed
    for code in sorted(listed & hello.keys()):
        assert (await execute(api_client, hello[code], code))["stdout"] == "hi\n"


async def test_bash_and_python_share_one_sandbox(api_client: httpx.AsyncClient) -> None:
    begun = await execute(api_client, "open('note', 'w').write('from python')")
    shell = await execute(
        api_client, "cat /mnt/data/note; python3 -c 'print(6 * 7)'", "bash", session_id=begun["session_id"]
    )
    assert shell["stdout"] == "from python42\n"


async def test_output_is_streamed_as_events(api_client: httpx.AsyncClient) -> None:
    body = {"lang": "py", "code": "print('one')", "stream": True}
    async with api_client.stream("POST", "/exec", json=body) as response:
        text = "".join([piece async for piece in response.aiter_text()])
    assert response.headers["content-type"].startswith("text/event-stream")
    assert 'event: stdout\ndata: {"text":"one\\n"}' in text
    assert "event: done\n" in text
