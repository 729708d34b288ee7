"""Pulling through the hub's own client, from a stand-in that speaks its wire."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from trainyard.core import errors, hub, hub_cache
from trainyard.testing.hub import HubModel, HubStandIn

WEIGHTS = bytes(range(256)) * 4096  # 1 MiB
CHUNK = 10 << 20  # what the client writes at once
LARGE = bytes(range(256)) * (11 << 12)  # 11 MiB
FILES = {
    "config.json": b"{}",
    "model.safetensors": WEIGHTS,
    "tokenizer.json": b'{"model": {}}',
    "chat_template.jinja": b"{{ messages }}",
    "pytorch_model.bin": b"not wanted",
    "README.md": b"not wanted",
    "onnx/model.safetensors": b"not wanted",
}
NAME = "yard/small"


@pytest.fixture
def stand_in() -> Iterator[HubStandIn]:
    models = {
        NAME: HubModel(FILES),
        "yard/gated": HubModel(FILES, is_gated=True),
        "yard/private": HubModel(FILES, is_private=True),
        "yard/bare": HubModel({"config.json": b"{}", "pytorch_model.bin": b"x"}),
        "yard/no-config": HubModel({"model.safetensors": b"x"}),
    }
    with HubStandIn(models).serving() as serving:
        yield serving


def pull(stand_in: HubStandIn, cache: Path, name: str = NAME, revision: str = "main") -> Path:
    wanted = hub.look(name, cache, endpoint=stand_in.url, revision=revision)
    return hub.fetch(wanted, cache, endpoint=stand_in.url)


def test_a_pulled_model_is_what_the_catalog_finds(stand_in: HubStandIn, tmp_path: Path) -> None:
    directory = pull(stand_in, tmp_path)
    assert hub_cache.find(NAME, tmp_path) == directory
    assert (directory / "model.safetensors").read_bytes() == WEIGHTS
    assert {path.name for path in directory.iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
    }


def test_what_is_there_is_not_fetched_again(stand_in: HubStandIn, tmp_path: Path) -> None:
    assert hub.look(NAME, tmp_path, endpoint=stand_in.url).missing_bytes == len(WEIGHTS) + 2 + 13 + 14
    pull(stand_in, tmp_path)
    assert hub.look(NAME, tmp_path, endpoint=stand_in.url).missing_bytes == 0
    pull(stand_in, tmp_path)
    fetched = [path for path in stand_in.requests if path.startswith("GET") and path.endswith("model.safetensors")]
    assert [stand_in.requests[path] for path in fetched] == [1]


def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(stand_in: HubStandIn, tmp_path: Path) -> None:
    stand_in.models[NAME].files = FILES | {"model.safetensors": LARGE}
    stand_in.cuts["model.safetensors"] = [len(LARGE) - 1000]
    directory = pull(stand_in, tmp_path)
    assert (directory / "model.safetensors").read_bytes() == LARGE
    assert stand_in.ranges == [f"bytes={CHUNK}-"]


def test_a_pull_that_gave_up_keeps_the_files_that_came_whole(stand_in: HubStandIn, tmp_path: Path) -> None:
    stand_in.cuts["model.safetensors"] = [0] * 6
    with pytest.raises(errors.Unavailable, match="pull again to go on"):
        pull(stand_in, tmp_path)
    stand_in.cuts.clear()
    wanted = hub.look(NAME, tmp_path, endpoint=stand_in.url)
    assert wanted.missing_bytes == len(WEIGHTS)
    directory = hub.fetch(wanted, tmp_path, endpoint=stand_in.url)
    assert (directory / "model.safetensors").read_bytes() == WEIGHTS


def test_a_model_that_does_not_fit_on_the_disk_is_not_begun(stand_in: HubStandIn, tmp_path: Path) -> None:
    wanted = hub.look(NAME, tmp_path, endpoint=stand_in.url)
    assert wanted.missing_bytes > 0
    with pytest.raises(errors.StartupError, match=r"MiB have to be fetched and .* has .* MiB free"):
        hub.check_disk(tmp_path / "not" / "there", 1 << 60)


@pytest.mark.parametrize(
    ("name", "revision", "kind", "says"),
    [
        ("yard/absent", "main", errors.NotFound, "no model yard/absent"),
        ("yard/private", "main", errors.NotFound, "or it is private: set HF_TOKEN"),
        ("yard/gated", "main", errors.Forbidden, "is gated: ask for access"),
        (NAME, "v9", errors.NotFound, "has no revision 'v9'"),
        ("yard/bare", "main", errors.InvalidRequest, "has no safetensors"),
        ("yard/no-config", "main", errors.InvalidRequest, "has no config.json"),
        ("not a name", "main", errors.InvalidRequest, "is no name of a model"),
    ],
)
def test_a_refusal_says_what_to_do(
    stand_in: HubStandIn, tmp_path: Path, name: str, revision: str, kind: type[errors.TrainyardError], says: str
) -> None:
    with pytest.raises(kind, match=says):
        pull(stand_in, tmp_path, name, revision)


def test_a_branch_can_be_pulled(stand_in: HubStandIn, tmp_path: Path) -> None:
    stand_in.models[NAME].branches["v1"] = stand_in.models[NAME].commit
    assert (pull(stand_in, tmp_path, revision="v1") / "config.json").is_file()


def test_a_hub_that_fails_is_named(stand_in: HubStandIn, tmp_path: Path) -> None:
    stand_in.status = 500
    with pytest.raises(errors.UpstreamFailed, match="The hub answered with 500"):
        pull(stand_in, tmp_path)


def test_a_hub_that_is_away_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(errors.Unavailable, match="cannot be reached"):
        hub.look(NAME, tmp_path, endpoint="http://127.0.0.1:1")


@pytest.mark.parametrize("name", ["etag", "x-linked-etag", "x-repo-commit"])
@pytest.mark.parametrize("value", ['"../../../../../outside"', '"/tmp/outside"', '".."'])
def test_a_hostile_hub_writes_nothing_outside_of_the_cache(tmp_path: Path, name: str, value: str) -> None:
    cache = tmp_path / "a" / "b" / "cache"
    hostile = HubModel(FILES, headers={name: value})
    with HubStandIn({NAME: hostile}).serving() as serving, pytest.raises(errors.UpstreamFailed) as caught:
        pull(serving, cache)
    assert name in caught.value.message
    assert [path for path in tmp_path.rglob("*") if path.is_file() and cache not in path.parents] == []


def test_a_hostile_hub_names_no_commit_outside_of_the_cache(tmp_path: Path) -> None:
    cache = tmp_path / "a" / "b" / "cache"
    hostile = HubModel(FILES, sha="../../../../outside")
    with HubStandIn({NAME: hostile}).serving() as serving, pytest.raises(errors.UpstreamFailed):
        pull(serving, cache)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
