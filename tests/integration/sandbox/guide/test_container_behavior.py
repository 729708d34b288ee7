"""Life and limits of what code runs in."""

import asyncio

import httpx

from tests.integration.sandbox.guide.conftest import execute


async def test_a_run_ends_when_its_time_is_over_and_the_session_goes_on(api_client: httpx.AsyncClient) -> None:
    ended = await execute(api_client, "import time\nprint('begun', flush=True)\ntime.sleep(60)", timeout_s=1)
    assert (ended["reason"], ended["stdout"]) == ("timeout", "begun\n")
    assert ended["stderr"].strip()
    again = await execute(api_client, "print('still here')", session_id=ended["session_id"])
    assert again["stdout"] == "still here\n"


async def test_memory_is_bounded(api_client: httpx.AsyncClient) -> None:
    ended = await execute(api_client, "x = bytearray(8 << 30)\nfor i in range(0, len(x), 4096): x[i] = 1")
    assert ended["error"] is not None
    assert ended["reason"] == "memory" or "MemoryError" in ended["stderr"]


async def test_a_long_output_keeps_head_and_tail_and_lies_whole_in_a_file(api_client: httpx.AsyncClient) -> None:
    ended = await execute(api_client, "print('first')\nprint('x' * 1_000_000)\nprint('last')")
    assert ended["stdout"].startswith("first\n")
    assert ended["stdout"].endswith("last\n")
    assert len(ended["stdout"]) < ended["stdout_bytes"] == 1_000_012
    [log] = ended["logs"]
    whole = await api_client.get(f"/download/{ended['session_id']}/{log['id']}")
    assert len(whole.content) == 1_000_012


async def test_what_a_run_started_ends_with_it(api_client: httpx.AsyncClient) -> None:
    begun = await execute(api_client, "import subprocess\nchild = subprocess.Popen(['sleep', '300'])")
    again = await execute(api_client, "print(child.wait(timeout=5))", session_id=begun["session_id"])
    assert again["stdout"] == "-9\n"


async def test_unicode_and_bytes_that_are_no_text_come_through(api_client: httpx.AsyncClient) -> None:
    ended = await execute(api_client, "import sys\nprint('žluťoučký 🐎')\nsys.stdout.buffer.write(b'\\xff\\n')")
    assert ended["stdout"] == "žluťoučký 🐎\n\ufffd\n"


async def test_ten_runs_at_once_all_end_well(api_client: httpx.AsyncClient) -> None:
    ended = await asyncio.gather(*(execute(api_client, f"print({number})") for number in range(10)))
    assert [one["stdout"] for one in ended] == [f"{number}\n" for number in range(10)]


async def test_how_a_program_died_is_told(api_client: httpx.AsyncClient) -> None:
    ended = await execute(api_client, "kill -SEGV $$", "bash")
    assert (ended["exit_code"], ended["signal"]) == (None, "SIGSEGV")
    assert ended["cpu_s"] >= 0
    assert ended["peak_memory_bytes"] > 0
