"""Downloading models from a hub that speaks the Hugging Face wire, through its own client."""

import contextlib
import fnmatch
import importlib
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.core import errors

FILES = (
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template*",
)
"""What an engine reads; weights in other formats and what lies in folders is left where it is."""

_IN_FOLDERS = "*/*"
_NAMES_OF_FILES = ("etag", "x-linked-etag", "x-repo-commit")
"""Headers of which the hub's client makes names of files, without a look at what stands in them."""

_COMMIT = re.compile(r"[0-9A-Za-z]{1,64}")
_SPARE_BYTES = 64 << 20  # so that the disk is not full to the last byte afterwards


@dataclass(frozen=True, slots=True)
class Download:
    """What there is to fetch.

    Attributes:
        commit: Hash of the revision.
        files: Names of what an engine reads.
        missing_bytes: Size of those that are not in the cache yet.
    """

    name: str
    revision: str
    commit: str
    files: Sequence[str]
    missing_bytes: int


def look(name: str, cache: Path, *, endpoint: str | None = None, revision: str = "main") -> Download:
    """Find out what a model consists of, what is missing here, and whether it fits on the disk.

    Args:
        name: `org/name`.
        cache: Directory of the hub's client.
        endpoint: Address of the hub; that of its client when left out.
        revision: Branch, tag or commit.

    Raises:
        errors.NotFound: There is no such model or revision, or it is private.
        errors.Forbidden: The model is gated and this machine's token is not let in.
        errors.InvalidRequest: It holds nothing that an engine reads.
        errors.Unavailable: The hub cannot be reached.
        errors.UpstreamFailed: The hub answered with an error.
        errors.StartupError: The disk has no room (`disk_full`).
    """
    import huggingface_hub

    _show_bars(False)
    _guard()
    with _explained(name, revision):
        info = huggingface_hub.HfApi(endpoint=endpoint).model_info(name, revision=revision)
        if not _COMMIT.fullmatch(str(info.sha)):
            raise errors.UpstreamFailed(f"The hub calls {str(info.sha)[:80]!r} a commit of {name}, which is none")
        names = [one.rfilename for one in info.siblings or ()]
        wanted = [one for one in names if "/" not in one and any(fnmatch.fnmatch(one, form) for form in FILES)]
        _check(name, wanted)
        planned = huggingface_hub.snapshot_download(
            name, revision=revision, cache_dir=cache.expanduser(), allow_patterns=list(FILES),
            ignore_patterns=[_IN_FOLDERS], endpoint=endpoint, dry_run=True,
        )  # fmt: skip
    missing = sum(one.file_size or 0 for one in planned if one.will_download)
    check_disk(cache.expanduser(), missing)
    return Download(name, revision, str(info.sha), wanted, missing)


def fetch(wanted: Download, cache: Path, *, endpoint: str | None = None, shows_progress: bool = False) -> Path:
    """Download what is missing.

    A transfer that breaks off is tried again from where it stopped, until five attempts in a row brought nothing. What
    came whole before a failure is not fetched again by the next call; half a file is.

    Args:
        wanted: From `look`.
        cache: Directory of the hub's client.
        endpoint: As in `look`.
        shows_progress: Bars on standard error.

    Returns:
        Directory of the model.

    Raises:
        errors.Unavailable: A transfer broke off for good; another call goes on with the files that are missing.
        errors.UpstreamFailed: As `look`.
    """
    import huggingface_hub

    _show_bars(shows_progress)
    _guard()
    with _explained(wanted.name, wanted.revision):
        directory = huggingface_hub.snapshot_download(
            wanted.name, revision=wanted.revision, cache_dir=cache.expanduser(), allow_patterns=list(FILES),
            ignore_patterns=[_IN_FOLDERS], endpoint=endpoint,
        )  # fmt: skip
    found = Path(directory)
    absent = [name for name in wanted.files if not (found / name).is_file()]
    if absent:  # the client falls back to what it has when the hub is away
        raise errors.Unavailable(f"{wanted.name}: {absent[0]} did not come; pull again to go on")
    return found


def _show_bars(is_wanted: bool) -> None:
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    (enable_progress_bars if is_wanted else disable_progress_bars)()


def _guard() -> None:
    """Have every answer judged before the hub's client writes files by the names in it, also after it reconnects."""
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    def guarded() -> Any:  # the HTTP library below the client differs between its versions
        client = default_client_factory()
        hooks = client.event_hooks
        client.event_hooks = {**hooks, "response": [*hooks["response"], _judge]}
        return client

    set_client_factory(guarded)


def _judge(response: Any) -> None:
    for name in _NAMES_OF_FILES if response.request.method == "HEAD" else ():
        value = response.headers.get(name, "x").removeprefix("W/").strip('"')
        if "/" in value or "\\" in value or value in ("", ".", ".."):
            raise errors.UpstreamFailed(f"The hub answered with the {name} {value[:80]!r}, which leads to other files")


def _check(name: str, wanted: Sequence[str]) -> None:
    lacks = "config.json" if "config.json" not in wanted else None
    if lacks is None and not any(one.endswith(".safetensors") for one in wanted):
        lacks = "safetensors"
    if lacks is not None:
        raise errors.InvalidRequest(f"{name} has no {lacks}, so no engine here can load it", code="model_not_loadable")


def check_disk(cache: Path, missing_bytes: int) -> None:
    """See that a download fits; raises `errors.StartupError`."""
    place = next(one for one in (cache.absolute(), *cache.absolute().parents) if one.is_dir())
    free = shutil.disk_usage(place).free
    if free < missing_bytes + _SPARE_BYTES:
        raise errors.StartupError(
            f"{missing_bytes >> 20} MiB have to be fetched and {place} has {free >> 20} MiB free; free some, or "
            "choose another hub_cache",
            code="disk_full",
            param="hub_cache",
        )


@contextlib.contextmanager
def _explained(name: str, revision: str) -> Iterator[None]:
    """Say the client's errors in our words."""
    from huggingface_hub import errors as hub

    try:
        yield
    except hub.GatedRepoError as error:
        raise errors.Forbidden(f"{name} is gated: ask for access on the hub and set HF_TOKEN") from error
    except hub.RepositoryNotFoundError as error:
        raise errors.NotFound(f"The hub has no model {name}, or it is private: set HF_TOKEN") from error
    except hub.RevisionNotFoundError as error:
        raise errors.NotFound(f"{name} has no revision {revision!r}") from error
    except hub.HFValidationError as error:
        raise errors.InvalidRequest(f"{name[:100]!r} is no name of a model; write org/name", param="name") from error
    except hub.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no status"
        raise errors.UpstreamFailed(f"The hub answered with {status} for {name}") from error
    except _broken_off() as error:
        raise errors.Unavailable(f"The hub cannot be reached, or broke off, for {name}; pull again to go on") from error


def _broken_off() -> tuple[type[Exception], ...]:
    """Find the errors of a transfer; the HTTP library below the client differs between its versions."""
    from huggingface_hub import errors as hub

    found: list[type[Exception]] = [hub.LocalEntryNotFoundError, hub.DryRunError]
    for library in ("httpx", "httpx2"):
        with contextlib.suppress(ImportError):
            found.append(importlib.import_module(library).HTTPError)
    return tuple(found)
