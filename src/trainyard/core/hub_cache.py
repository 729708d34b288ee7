"""Finding models that the Hugging Face hub's client has already downloaded to this machine; nothing is fetched."""

from pathlib import Path

DEFAULT = Path("~/.cache/huggingface/hub")


def find(name: str, cache: Path = DEFAULT) -> Path | None:
    """Find the directory of a model's newest downloaded revision.

    Args:
        name: `org/name`.
        cache: Directory in the layout `models--org--name/{refs/main,snapshots/<commit>}`.

    Returns:
        None when it is not there or holds no `config.json`.
    """
    model = cache.expanduser() / f"models--{name.replace('/', '--')}"
    try:
        commit = (model / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    directory = model / "snapshots" / Path(commit).name
    return directory if (directory / "config.json").is_file() else None
