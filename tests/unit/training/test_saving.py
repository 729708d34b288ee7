import asyncio
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from tests.unit.training.yard import SECRET, Yard, new_run, principal, step, train
from trainyard.core import errors
from trainyard.core.clock import FakeClock
from trainyard.training import types
from trainyard.training.service.signing import Signer

ANN = principal("ann")
BOB = principal("bob")


async def save(yard: Yard, run_id: str, mode: str = "adapter") -> types.SaveStateResponse:
    return await yard.service.saving.save_state(ANN, run_id, types.SaveStateRequest.model_validate({"mode": mode}))


def digests(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}


async def test_a_saved_adapter_lies_on_disk_as_its_manifest_says(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    await train(yard, ANN, run_id)
    await step(yard, ANN, run_id)
    saved = await save(yard, run_id)
    assert (saved.name, saved.step, saved.mode) == ("step_1", 1, "adapter")
    assert saved.checkpoint_path == f"runs/{run_id}/checkpoints/step_1"
    assert saved.local_path == str(yard.settings.data_dir.absolute() / saved.checkpoint_path)
    found = await asyncio.to_thread(digests, Path(saved.local_path))
    assert found == {name: facts.sha256 for name, facts in saved.manifest.items()}
    assert set(found) == {"adapter_config.json", "adapter_model.safetensors"}
    assert (saved.s3_uri, saved.pushed_to_hub, saved.hub_model_id) == (None, False, None)


async def test_saves_at_one_step_have_names_of_their_own(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    names = []
    for mode in ("adapter", "adapter", "merged", "merged", "adapter"):
        names.append((await save(yard, run_id, mode)).name)
        yard.clock.advance(1)
    assert names == ["step_0", "step_0_2", "step_0_merged", "step_0_merged_2", "step_0_3"]
    assert [one.name for one in await yard.service.saving.artifacts(ANN, run_id)] == names


async def test_what_a_crash_left_of_a_save_is_replaced(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    checkpoints = yard.settings.data_dir.absolute() / "runs" / run_id / "checkpoints"
    for name in ("step_0", "step_0.partial", ".step_0.tmp"):
        await asyncio.to_thread((checkpoints / name).mkdir, parents=True)
    saved = await save(yard, run_id)
    assert saved.name == "step_0"
    assert [path.name for path in await asyncio.to_thread(lambda: list(checkpoints.iterdir()))] == ["step_0"]


async def test_temporary_directories_of_a_crash_are_gone_after_the_next_start(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    kept = Path((await save(yard, run_id)).local_path)
    for name in (".step_1.new", "step_1.partial"):
        await asyncio.to_thread((kept.parent / name).mkdir)
    await yard.new_service().recover()
    assert await asyncio.to_thread(lambda: list(kept.parent.iterdir())) == [kept]


async def test_files_that_others_put_among_the_checkpoints_disturb_neither_a_start_nor_a_save(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    checkpoints = yard.settings.data_dir.absolute() / "runs" / run_id / "checkpoints"
    await asyncio.to_thread(checkpoints.mkdir, parents=True)
    for name in (".DS_Store", "step_0.txt"):
        await asyncio.to_thread((checkpoints / name).touch)
    await yard.new_service().recover()
    assert (await save(yard, run_id)).name == "step_0"


async def test_a_save_that_fails_registers_nothing(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    yard.engine.fail_next(errors.Unavailable("away", code="engine_restarting"))
    with pytest.raises(errors.Unavailable):
        await save(yard, run_id)
    assert await yard.service.saving.artifacts(ANN, run_id) == []
    assert (await save(yard, run_id)).name == "step_0"


async def test_a_save_on_a_restarted_engine_is_named_by_the_step_it_has(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    await train(yard, ANN, run_id)
    await step(yard, ANN, run_id)
    yard.engine.die()
    assert (await save(yard, run_id)).name == "step_1"


async def test_an_archive_holds_the_files_and_has_the_promised_size(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    saved = await save(yard, run_id)
    download = await yard.service.downloads.by_owner(ANN, run_id, saved.artifact_id)
    content = b"".join([chunk async for chunk in download.chunks])
    assert len(content) == download.size_bytes
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        read = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    folder = f"{run_id}-step_0"
    expected = {f"{folder}/{name}": facts.sha256 for name, facts in saved.manifest.items()}
    assert {name: hashlib.sha256(body).hexdigest() for name, body in read.items()} == expected
    assert download.file_name == f"{folder}.tar"


async def test_downloads_are_counted(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    saved = await save(yard, run_id)
    for _ in range(2):
        await yard.service.downloads.by_owner(ANN, run_id, saved.artifact_id)
    (listed,) = await yard.service.saving.artifacts(ANN, run_id)
    assert listed.download_count == 2
    assert listed.file_size_bytes == sum(facts.size for facts in saved.manifest.values())


async def test_a_download_needs_the_owner_and_an_artifact(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    saved = await save(yard, run_id)
    with pytest.raises(errors.Forbidden):
        await yard.service.downloads.by_owner(BOB, run_id, saved.artifact_id)
    with pytest.raises(errors.NotFound) as unknown:
        await yard.service.downloads.by_owner(ANN, run_id, "art_none")
    assert unknown.value.code == "artifact_not_found"
    for facts in saved.manifest.values():
        await yard.blobs.delete(facts.sha256)
    with pytest.raises(errors.NotFound) as gone:
        await yard.service.downloads.by_owner(ANN, run_id, saved.artifact_id)
    assert gone.value.code == "artifact_gone"


def test_a_link_is_good_for_an_hour_and_for_its_artifact_alone(clock: FakeClock) -> None:
    signer = Signer(SECRET, clock)
    link = signer.link("run_1", "art_1")
    expires, signature = (part.partition("=")[2] for part in link.path.partition("?")[2].split("&"))
    clock.advance(3599)
    signer.check("run_1", "art_1", int(expires), signature)
    for run, artifact, end in (
        ("run_2", "art_1", int(expires)),
        ("run_1", "art_2", int(expires)),
        ("run_1", "art_1", 2**40),
    ):
        with pytest.raises(errors.Forbidden) as forged:
            signer.check(run, artifact, end, signature)
        assert forged.value.code == "signature_invalid"
    with pytest.raises(errors.Forbidden):
        signer.check("run_1", "art_1", int(expires), "é" * 64)
    with pytest.raises(errors.Forbidden):
        Signer(b"another secret", clock).check("run_1", "art_1", int(expires), signature)
    clock.advance(1)
    with pytest.raises(errors.Forbidden) as over:
        signer.check("run_1", "art_1", int(expires), signature)
    assert over.value.code == "link_expired"
