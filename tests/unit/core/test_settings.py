from pathlib import Path

import pytest
from pydantic import ValidationError

from trainyard.core import errors, settings
from trainyard.core.settings import Settings


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _write(text: str, name: str = "trainyard.yaml") -> Path:
    path = Path(name)
    path.write_text(text)
    return path


def test_defaults_stand_when_nothing_is_configured() -> None:
    loaded = settings.load(environ={})
    assert loaded == Settings()
    assert (loaded.server.host, loaded.server.port) == ("127.0.0.1", 8000)
    assert loaded.server.max_body_bytes == 20_971_520
    assert loaded.training.max_live_runs_per_user == 5


def test_each_source_beats_the_one_before_it() -> None:
    _write("server: {host: file, port: 1, drain_s: 1}")
    environ = {"TRAINYARD_SERVER__PORT": "2", "TRAINYARD_SERVER__DRAIN_S": "2"}
    server = settings.load({"server.drain_s": 3}, environ=environ).server
    assert (server.host, server.port, server.drain_s, server.max_body_bytes) == ("file", 2, 3.0, 20_971_520)


def test_provenance_names_the_source_of_every_value() -> None:
    _write("server: {port: 1}")
    environ = {"TRAINYARD_LOG__LEVEL": "debug"}
    origins = {each.name: each for each in settings.provenance({"data_dir": "d", "server.host": None}, environ=environ)}
    assert origins["server.port"].source == "trainyard.yaml"
    assert (origins["log.level"].value, origins["log.level"].source) == ("debug", "TRAINYARD_LOG__LEVEL")
    assert origins["data_dir"].source == "flag"
    assert origins["server.host"].source == "default"


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("secret", "a-long-enough-secret", "********"),
        ("database.url", "postgresql://u:hunter2@h/d", "********"),
        ("server.port", 3, "3"),
    ],
)
def test_secrets_are_masked_where_settings_are_shown(name: str, value: object, shown: str) -> None:
    origins = settings.provenance({name: value}, environ={})
    assert [each.shown for each in origins if each.name == name] == [shown]
    assert str(value) not in repr(settings.load({name: value}, environ={})) or shown == str(value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("server: {prot: 1}", "unknown setting 'server.prot' (from trainyard.yaml); did you mean 'server.port'?"),
        ("port: 1", "unknown setting 'port' (from trainyard.yaml); did you mean 'server.port'?"),
        ("data_dri: x", "did you mean 'data_dir'?"),
        ("qqqqqqqqqq: 1", "valid settings: data_dir, models_file"),
        ("server: 5", "'server' (from trainyard.yaml) is a section, not a value; its settings: server.host"),
        ("server: {port: {deep: 1}}", "did you mean 'server.port'?"),
        ("server: {port: eighty}", "server.port (from trainyard.yaml): Input should be a valid integer"),
        ("server: {port: 70000}", "server.port (from trainyard.yaml): Input should be less than or equal to 65535"),
        ("database: {sync: never}", "database.sync (from trainyard.yaml): Input should be 'normal' or 'full'"),
        ("secret: short", "secret (from trainyard.yaml): Value should have at least 16 items"),
        ("- a list", "holds no mapping of settings"),
        ("a: [", "trainyard.yaml is not YAML"),
    ],
)
def test_a_bad_file_is_one_line_that_says_what_is_right(content: str, says: str) -> None:
    _write(content)
    with pytest.raises(errors.ConfigError) as caught:
        settings.load(environ={})
    assert says in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("variable", "says"),
    [
        ("TRAINYARD_SERVER__PROT", "(from TRAINYARD_SERVER__PROT); did you mean 'server.port'?"),
        ("TRAINYARD_PORT", "did you mean 'server.port'?"),
        ("TRAINYARD_SERVER_PORT", "did you mean 'server.port'?"),
    ],
)
def test_an_unknown_variable_names_the_nearest_setting(variable: str, says: str) -> None:
    with pytest.raises(errors.ConfigError) as caught:
        settings.load(environ={variable: "1"})
    assert says in caught.value.message


def test_variables_of_the_client_and_of_others_are_left_alone() -> None:
    environ = {"TRAINYARD_URL": "x", "TRAINYARD_API_KEY": "y", "TRAINYARD_REQUIRE": "all", "PATH": "/bin"}
    assert settings.load(environ=environ) == Settings()


def test_an_empty_variable_means_none() -> None:
    _write("engine: {threads: 3}")
    assert settings.load(environ={"TRAINYARD_ENGINE__THREADS": ""}).engine.threads is None


def test_the_process_environment_counts_when_no_other_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_SERVER__PORT", "77")
    assert settings.load().server.port == 77


def test_a_file_that_is_named_must_be_there() -> None:
    with pytest.raises(errors.ConfigError, match=r"nowhere\.yaml cannot be read"):
        settings.load(config_file=Path("nowhere.yaml"), environ={})


def test_an_empty_file_is_no_error() -> None:
    assert settings.load(config_file=_write("", "empty.yaml"), environ={}) == Settings()


def test_the_database_is_in_the_data_directory_unless_configured(tmp_path: Path) -> None:
    assert Settings(data_dir=tmp_path).database_url == f"sqlite:///{tmp_path / 'trainyard.db'}"
    assert settings.load({"database.url": "postgresql://h/d"}, environ={}).database_url == "postgresql://h/d"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().server.port = 1


def test_sections_in_sections_are_read_from_files_and_variables(tmp_path: Path) -> None:
    file = tmp_path / "deep.yaml"
    file.write_text("sandbox: {idle_s: 5, limits: {timeout_s: 7}, jwt: {issuer: chat}}")
    made = settings.load(config_file=file, environ={"TRAINYARD_SANDBOX__LIMITS__CPU_S": "9"}).sandbox
    assert (made.idle_s, made.limits.timeout_s, made.limits.cpu_s, made.jwt.issuer) == (5, 7, 9, "chat")


@pytest.mark.parametrize("text", ["10.0.0.0/8,127.0.0.1/32", " 10.0.0.0/8 , 127.0.0.1/32,"])
def test_a_variable_holds_a_list_with_commas(text: str) -> None:
    made = settings.load(environ={"TRAINYARD_SANDBOX__TRUSTED_NETWORKS": text})
    assert made.sandbox.trusted_networks == ("10.0.0.0/8", "127.0.0.1/32")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_static_keys_work_where_only_this_machine_can_reach_them(host: str) -> None:
    made = settings.load({"server.host": host}, environ={"TRAINYARD_STATIC_KEYS": "some-key-of-mine"})
    assert made.static_keys is not None
    assert made.static_keys.get_secret_value() == "some-key-of-mine"
    assert "some-key-of-mine" not in repr(made)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "yard.example"])  # noqa: S104 - what is refused
def test_static_keys_are_refused_where_others_can_reach_them(host: str) -> None:
    environ = {"TRAINYARD_STATIC_KEYS": "some-key-of-mine"}
    with pytest.raises(errors.ConfigError, match="allow_public_static_keys") as refused:
        settings.load({"server.host": host}, environ=environ)
    assert "some-key-of-mine" not in refused.value.message
    assert settings.load({"server.host": host}, environ=environ | {"TRAINYARD_ALLOW_PUBLIC_STATIC_KEYS": "true"})
    assert settings.load({"server.host": host}, environ={})


@pytest.mark.parametrize(
    ("flags", "is_tls"),
    [
        ({}, False),
        ({"server.tls_self_signed": "true"}, True),
        ({"server.tls_self_signed": "false"}, False),
        ({"server.tls_cert": "c.pem", "server.tls_key": "k.pem"}, True),
    ],
)
def test_a_certificate_means_https(flags: dict[str, str], is_tls: bool) -> None:
    assert settings.load(flags, environ={}).server.speaks_tls is is_tls


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"server.tls_cert": "c.pem"}, "go together"),
        ({"server.tls_key": "k.pem"}, "go together"),
        (
            {"server.tls_cert": "c.pem", "server.tls_key": "k.pem", "server.tls_self_signed": "true"},
            "set one of them",
        ),
    ],
)
def test_half_a_certificate_and_two_of_them_are_refused(flags: dict[str, str], message: str) -> None:
    with pytest.raises(errors.ConfigError, match=message):
        settings.load(flags, environ={})


@pytest.mark.parametrize(
    ("values", "param", "said"),
    [
        ({"sandbox.trusted_networks": "10.1.0.1/16"}, "sandbox.trusted_networks", "write ranges such as 10.1.0.0/16"),
        ({"sandbox.trusted_networks": "10.1.0.0/16,nowhere"}, "sandbox.trusted_networks", "write ranges"),
        (
            {"sandbox.limits.timeout_s": 40, "sandbox.limits.max_timeout_s": 10},
            "sandbox.limits.timeout_s",
            "more than sandbox.limits.max_timeout_s",
        ),
        (
            {"sandbox.limits.output_bytes": 1 << 20, "sandbox.limits.log_bytes": 1 << 16},
            "sandbox.limits.output_bytes",
            "more than sandbox.limits.log_bytes",
        ),
        ({"sandbox.enabled": "perhaps"}, "sandbox.enabled", "boolean.*or.*'auto'"),
    ],
)
def test_settings_of_the_sandbox_that_cannot_be_are_refused(values: dict[str, object], param: str, said: str) -> None:
    with pytest.raises(errors.ConfigError, match=said) as refused:
        settings.load(values, environ={})
    assert refused.value.param == param
