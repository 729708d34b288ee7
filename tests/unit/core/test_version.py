import trainyard
from trainyard.core.version import VERSION


def test_the_installed_version_is_that_of_the_package() -> None:
    assert trainyard.__version__ == VERSION
