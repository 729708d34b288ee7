"""What a pod tells its process."""

import pytest

from trainyard.sandbox.inside.pod import surroundings

LIMITS = (
    '{"memory_bytes": 1, "processes": 2, "open_files": 3, "workspace_bytes": 4, "workspace_files": 5, '
    '"scratch_bytes": 6, "spool_bytes": 7}'
)
GIVEN = {
    "TRAINYARD_BOX_TOKEN": "t" * 43,
    "TRAINYARD_BOX_HOST": "10.1.2.3",
    "TRAINYARD_BOX_PORT": "8600",
    "TRAINYARD_BOX_SOCKETS": "unix",
    "TRAINYARD_BOX_LIMITS": LIMITS,
    "PATH": "/bin",
}


def test_it_is_read_and_nothing_of_it_is_left() -> None:
    environ = GIVEN | {"TRAINYARD_BOX_PRELOAD": "numpy,pandas", "TRAINYARD_BOX_LIBRARIES": "/a:/b"}
    found = surroundings.take(environ)
    assert environ == {"PATH": "/bin"}
    assert (found.token, found.host, found.port, found.path) == (b"t" * 43, "10.1.2.3", 8600, "/bin")
    assert (found.preload, found.libraries, found.has_sockets) == (("numpy", "pandas"), ("/a", "/b"), False)
    assert (found.limits.memory_bytes, found.limits.spool_bytes) == (1, 7)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"TRAINYARD_BOX_TOKEN": "short"}, ValueError),
        ({"TRAINYARD_BOX_TOKEN": ""}, ValueError),
        ({"TRAINYARD_BOX_PORT": "x"}, ValueError),
        ({"TRAINYARD_BOX_SOCKETS": "some"}, KeyError),
        ({"TRAINYARD_BOX_LIMITS": "{}"}, TypeError),
    ],
)
def test_what_is_wrong_ends_the_pod(change: dict[str, str], error: type[Exception]) -> None:
    with pytest.raises(error):
        surroundings.take(GIVEN | change)
