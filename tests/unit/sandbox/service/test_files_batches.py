"""How many files one request may have: of an upload, of a batch, of a run."""

import pytest

from tests.unit.sandbox.service.conftest import ANNA, Make, Server, uploads
from trainyard.core import errors
from trainyard.core.settings import SandboxLimits
from trainyard.sandbox.types.domain import FileRef

LIMITS = SandboxLimits(files_per_request=2, files_per_batch=4)


def _files(count: int) -> dict[str, str]:
    return {f"{number}.txt": str(number) for number in range(count)}


async def test_a_batch_as_large_as_librechat_sends_them_is_stored_and_used(server: Server) -> None:
    session, done = await server.service.upload(ANNA, uploads(_files(200)), one_by_one=True)
    assert session is not None
    refs = [FileRef(session_id=session, file_id=one.file.id) for one in done if one.file is not None]
    assert len(refs) == 200
    assert (await server.run("import os; print(len(os.listdir()))", files=tuple(refs))).stdout == "200\n"


async def test_files_of_a_batch_that_are_too_many_are_refused_each_and_the_others_stay(make: Make) -> None:
    server = make(limits=LIMITS)
    session, done = await server.service.upload(ANNA, uploads(_files(6)), one_by_one=True)
    assert session is not None
    assert [None if one.error is None else one.error.code for one in done] == [None] * 4 + ["too_many_files"] * 2
    assert len(await server.service.list_files(ANNA, session)) == 4


async def test_a_batch_without_end_is_refused_as_a_whole(make: Make) -> None:
    server = make(limits=LIMITS)
    with pytest.raises(errors.TooLarge) as many:
        await server.service.upload(ANNA, uploads(_files(2000)), one_by_one=True)
    assert (many.value.code, many.value.data["max_files"]) == ("too_many_files", 4)
    assert await server.service.list_sessions(ANNA) == []


async def test_an_upload_of_all_or_nothing_has_a_bar_of_its_own(make: Make) -> None:
    server = make(limits=LIMITS)
    with pytest.raises(errors.TooLarge, match="2 files") as many:
        await server.service.upload(ANNA, uploads(_files(3)))
    assert many.value.code == "too_many_files"
    assert await server.service.list_sessions(ANNA) == []
