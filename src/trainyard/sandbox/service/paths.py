"""Names of files in a workspace."""

from trainyard.core import errors

MAX_PART_BYTES = 255
"""NAME_MAX of Linux's file systems."""

MAX_PATH_BYTES = 4096
"""PATH_MAX."""

_GOOD = "write it relative to the workspace, such as data/sales 2024.csv"


def checked(path: str) -> str:
    """Return a path that names a file below the workspace.

    Raises:
        errors.InvalidRequest: It does not (code `invalid_file_name`).
    """
    wrong = _wrong(path)
    if wrong is not None:
        raise errors.InvalidRequest(
            f"The file name {_shown(path)} {wrong}; {_GOOD}", code="invalid_file_name", param="file"
        )
    return path


def is_good(path: str) -> bool:
    """Whether a path names a file below the workspace; what a box says is looked at like what a caller says."""
    return _wrong(path) is None


def _wrong(path: str) -> str | None:
    try:
        raw = path.encode()
    except UnicodeEncodeError:
        return "is not Unicode"
    if b"\0" in raw:
        return "has a NUL"
    if path.startswith("/"):
        return "is absolute"
    parts = raw.split(b"/")
    if b".." in parts:
        return "leads out of its folder"
    if b"" in parts or b"." in parts:
        return "has an empty part"
    if len(raw) > MAX_PATH_BYTES:
        return f"has {len(raw)} bytes of {MAX_PATH_BYTES}"
    longest = max(map(len, parts))
    return f"has a part of {longest} bytes of {MAX_PART_BYTES}" if longest > MAX_PART_BYTES else None


def parents(path: str) -> list[str]:
    """List the folders above a file, the outermost first."""
    parts = path.split("/")
    return ["/".join(parts[:number]) for number in range(1, len(parts))]


def check_tree(known: set[str], added: list[str]) -> None:
    """Refuse names that would make a file a folder as well, or that come twice.

    Raises:
        errors.InvalidRequest: Code `invalid_file_name`.
    """
    every, folders = known | set(added), {folder for path in (*known, *added) for folder in parents(path)}
    both = sorted(every & folders)
    if both:
        raise errors.InvalidRequest(
            f"{_shown(both[0])} would be a file and a folder", code="invalid_file_name", param="file"
        )
    twice = sorted({path for path in added if added.count(path) > 1})
    if twice:
        raise errors.InvalidRequest(
            f"Two files of this request are named {_shown(twice[0])}; give each its own name",
            code="invalid_file_name",
            param="file",
        )


def _shown(path: str) -> str:
    return ascii(path if len(path) <= 80 else f"{path[:60]}…{path[-15:]}")
