from pathlib import Path

import pytest

from trainyard.core import errors
from trainyard.core.catalog import ModelRegistry
from trainyard.core.settings import Settings

SIGNAL = """
models:
  - name: meta-llama/Llama-3.2-1B
    framework: transformers
    gpu: l40s:1
    family: llama
  - name: unsloth/gemma-2-9b
    framework: unsloth
    gpu: a100-80gb:4
    family: gemma
"""


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "models.yaml"
    path.write_text(text)
    return path


def _registry(tmp_path: Path, text: str) -> ModelRegistry:
    return ModelRegistry(config_file=_write(tmp_path, text), hub=tmp_path / "hub")


def _model(tmp_path: Path, name: str = "mine") -> Path:
    directory = tmp_path / name
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    return directory


def test_the_package_brings_the_pocket_model() -> None:
    registry = ModelRegistry()
    assert registry.list_models() == ["trainyard/pocket"]
    assert registry.default_model == "trainyard/pocket"
    assert registry.entry("pocket") is registry.entry("trainyard/pocket")


def test_the_four_keys_of_signal_load_as_they_are(tmp_path: Path) -> None:
    registry = _registry(tmp_path, SIGNAL)
    assert registry.list_models() == ["meta-llama/Llama-3.2-1B", "unsloth/gemma-2-9b"]
    found = registry.get_model("unsloth/gemma-2-9b")
    assert found is not None
    assert (found["name"], found["framework"], found["gpu"], found["family"]) == (
        *("unsloth/gemma-2-9b", "unsloth", "a100-80gb:4", "gemma"),
    )
    assert registry.is_supported("meta-llama/Llama-3.2-1B")
    assert registry.default_model == "meta-llama/Llama-3.2-1B"


def test_a_missing_file_is_an_empty_registry(tmp_path: Path) -> None:
    registry = ModelRegistry(config_file=str(tmp_path / "none.yaml"))
    assert (registry.list_models(), registry.get_model("x"), registry.default_model) == ([], None, None)
    assert not registry.is_supported("x")
    with pytest.raises(errors.UnknownModel, match="none is configured"):
        registry.entry("x")


@pytest.mark.parametrize("content", ["", "models: []", "default_model:"])
def test_a_file_without_models_is_an_empty_registry(tmp_path: Path, content: str) -> None:
    assert _registry(tmp_path, content).entries == ()


def test_the_settings_name_a_file_that_must_be_there(tmp_path: Path) -> None:
    assert ModelRegistry.from_settings(Settings()).list_models() == ["trainyard/pocket"]
    file = _write(tmp_path, "models: [{name: a/b, backend: fake}]")
    assert ModelRegistry.from_settings(Settings(models_file=file)).list_models() == ["a/b"]
    with pytest.raises(errors.ConfigError, match=r"there is no file .*none\.yaml"):
        ModelRegistry.from_settings(Settings(models_file=tmp_path / "none.yaml"))


def test_a_relative_path_starts_at_the_catalog(tmp_path: Path) -> None:
    directory = _model(tmp_path)
    assert _registry(tmp_path, "models: [{name: a/b, path: mine}]").entry("a/b").path == directory


def test_without_a_path_the_hub_cache_is_asked(tmp_path: Path) -> None:
    refs, snapshot = tmp_path / "hub/models--a--b/refs", tmp_path / "hub/models--a--b/snapshots/c0ffee"
    refs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (refs / "main").write_text("c0ffee\n")
    (snapshot / "config.json").write_text("{}")
    registry = _registry(tmp_path, "models: [{name: a/b, load: eager}, {name: c/d}]")
    assert registry.entry("a/b").path == snapshot
    assert registry.entry("c/d").path is None


def test_a_model_that_is_off_may_be_absent(tmp_path: Path) -> None:
    assert _registry(tmp_path, "models: [{name: a/b, path: gone, load: off}]").entry("a/b").load == "off"


def test_the_default_may_be_an_alias(tmp_path: Path) -> None:
    text = "default_model: two\nmodels: [{name: a/b, backend: fake}, {name: c/d, backend: fake, aliases: [two]}]"
    assert _registry(tmp_path, text).default_model == "c/d"


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b/../c", "", "trainyard/pocket\x00", "x" * 500])
def test_names_that_are_not_listed_are_unknown_whatever_they_look_like(name: str) -> None:
    with pytest.raises(errors.UnknownModel) as caught:
        ModelRegistry().entry(name)
    assert "available: trainyard/pocket" in caught.value.message
    assert caught.value.param == "model"
    assert len(caught.value.message) < 250


BAD_FILES = [
    ("models: [{name: a/b, bakend: fake}]", "models.0.bakend (a/b): unknown key; did you mean 'backend'?"),
    ("models: [{name: a/b, qqqq: 1}]", "unknown key; valid keys: name, aliases, backend"),
    ("model: []", "model: unknown key; did you mean 'models'?"),
    ("models: [{path: x}]", "models.0.name: Field required"),
    ("models: [{name: ../up}]", "models.0.name (../up): String should match pattern"),
    ("models: [{name: a/../b}]", "models.0.name (a/../b): String should match pattern"),
    ("models: [{name: /etc/passwd}]", "models.0.name (/etc/passwd): String should match pattern"),
    ("models: [{name: a/b, aliases: ['..']}]", "models.0.aliases.0 (a/b): String should match pattern"),
    ("models: [{name: run_1, backend: fake}]", "begins with run_, which is kept for trained adapters"),
    ("models: [{name: a/b, backend: vllm}]", "models.0.backend (a/b): Input should be 'local' or 'fake'"),
    ("models: [{name: a/b, load: maybe}]", "models.0.load (a/b): Input should be 'eager', 'lazy' or 'off'"),
    ("models: [{name: a/b, gpu: 'l40s:0'}]", "models.0.gpu (a/b): String should match pattern"),
    ("models: [{name: a/b, path: gone}]", "a/b: there is no config.json in"),
    ("models: [{name: a/b, load: eager}]", "a/b: it is not in"),
    ("models: [{name: a/b, backend: fake, path: x}]", "a/b: a fake model has no path"),
    ("models: [{name: a/b, backend: fake}, {name: a/b, backend: fake}]", "'a/b' stands for both a/b and a/b"),
    (
        "models: [{name: a/b, backend: fake}, {name: c/d, backend: fake, aliases: [a/b]}]",
        "'a/b' stands for both a/b and c/d",
    ),
    ("default_model: x\nmodels: [{name: a/b, backend: fake}]", "default_model 'x' is not one of the models: a/b"),
    ("models: {name: a/b}", "models: Input should be a valid tuple"),
    ("models: [text]", "models.0: Input should be"),
    ("- a list", "the file: Input should be"),
    ("a: [", "is not YAML"),
]


@pytest.mark.parametrize(("content", "says"), BAD_FILES)
def test_a_bad_file_is_one_line_that_names_the_entry(tmp_path: Path, content: str, says: str) -> None:
    with pytest.raises(errors.ConfigError) as caught:
        _registry(tmp_path, content)
    assert says in caught.value.message
    assert "\n" not in caught.value.message


def test_a_directory_in_place_of_the_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigError, match="cannot be read"):
        ModelRegistry(tmp_path)
