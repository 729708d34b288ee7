"""What bwrap is told, and in which order."""

from trainyard.sandbox.inside import scene
from trainyard.sandbox.inside.bubblewrap import arguments, order
from trainyard.sandbox.inside.lockdown.limits import Limits

BARS = Limits(
    memory_bytes=1 << 29,
    processes=64,
    open_files=256,
    workspace_bytes=1 << 28,
    workspace_files=1000,
    scratch_bytes=1 << 27,
    spool_bytes=1 << 26,
)


def test_memory_comes_before_what_lies_below_it() -> None:
    items = [scene.Tree("/tmp/packages", "/tmp/packages")]  # noqa: S108 - a path in a list

    made = arguments.of(items, (), BARS)

    assert made.index("--tmpfs") < made.index("/tmp/packages")  # noqa: S108 - the same
    assert made[made.index("/mnt/data") - 5 : made.index("/mnt/data")] == [
        "--perms", "0700", "--size", str(1 << 28), "--tmpfs",
    ]  # fmt: skip
    assert made[-2:] == ["--remount-ro", "/"]


def test_a_root_of_its_own_is_shown_whole_with_what_memory_would_cover() -> None:
    made = arguments.of(None, ("/tmp/packages",), BARS)  # noqa: S108 - a path in a list

    assert made.index("--ro-bind") < made.index("--tmpfs")
    assert made[made.index("--ro-bind") :][:3] == ["--ro-bind", "/", "/"]
    assert made.count("/tmp/packages") == 2  # noqa: S108 - the same
    assert "--symlink" not in made


def test_every_kind_of_item_is_shown() -> None:
    items: list[scene.Item] = [
        scene.Folder("/empty"),
        scene.Link("/bin", "usr/bin"),
        scene.File("/etc/services", "/etc/services"),
        scene.Tree("/there", "/here"),
    ]

    made = " ".join(arguments.of(items, (), BARS))

    assert "--dir /empty --symlink usr/bin /bin --ro-bind /etc/services /etc/services --ro-bind /here /there" in made


def test_what_is_given_up_is_asked_for() -> None:
    made = arguments.of([], (), BARS)

    for flag in ("--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--as-pid-1", "--clearenv"):
        assert flag in made
    assert made[made.index("--cap-drop") + 1] == "ALL"
    assert made[made.index("--uid") + 1] != "0"


def test_an_order_comes_back_as_it_was_written() -> None:
    made = order.Order(BARS, "science", 7, True, True, False, is_trial=True)

    assert order.decode(made.encode()) == made
