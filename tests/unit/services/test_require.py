import pytest

from tests.services import require


def test_a_missing_program_is_a_skip_that_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRAINYARD_REQUIRE", raising=False)
    with pytest.raises(pytest.skip.Exception, match="Postgres is not on this machine; install it with: apt-get"):
        require.missing("Postgres", "apt-get install postgresql")


def test_a_missing_program_is_a_failure_where_all_must_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_REQUIRE", "all")
    with pytest.raises(pytest.fail.Exception, match="TRAINYARD_REQUIRE=all"):
        require.missing("Postgres", "apt-get install postgresql")
