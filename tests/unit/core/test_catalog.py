from pathlib import Path

import pytest

from trainyard.core import errors
from trainyard.core.catalog import Change, ModelRegistry
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
    ("models: [{name: a/b, base_url: 'http://x'}]", "base_url does not belong to backend local; valid: aliases"),
    ("models: [{name: a, backend: openai}]", "models.0 (a): backend openai needs base_url"),
    ("models: [{name: a, backend: adapter, base: b}]", "models.0 (a): backend adapter needs path"),
    ("models: [{name: a, backend: openai, base_url: x}]", "models.0.base_url (a): write an address such as https://"),
    ("models: [{name: a, backend: ollama, base_url: 'http://u:p@x'}]", "a key belongs into api_key_env"),
    (
        "models: [{name: a, backend: ollama, base_url: 'http://x:99999'}]",
        "models.0.base_url (a): an address has a port",
    ),
    ("models: [{name: a, backend: ollama, base_url: 'http://x:0/v1'}]", "a port of 1 to 65535, or none"),
    ("models: [{name: a, backend: ollama, base_url: 'http://x..y'}]", "has a host that can be looked up"),
    ("models: [{name: a, backend: ollama, base_url: 'http://[::1'}]", "models.0.base_url (a): Invalid IPv6 URL"),
    ("models: [{name: a, backend: ollama, api_key_env: sk-1-2}]", "models.0.api_key_env (a): String should match"),
    ("models: [{name: a, backend: ollama, load: eager}]", "backend ollama has none; write lazy or off"),
    ("models: [{name: a, backend: ollama, text_prompts: chat}]", "text_prompts does not belong to backend ollama"),
    ("models: [{name: a, backend: ollama, timeout_s: 0}]", "models.0.timeout_s (a): Input should be greater than 0"),
    ("models: [{name: a, backend: ollama, time_out: 3}]", "unknown key; did you mean 'timeout_s'?"),
    ("models: [{name: a, backend: fake, prices: {promt: 1}}]", "unknown key 'promt'; valid keys: prompt, completion"),
    ("models: [{name: a, backend: fake, prices: {prompt: much}}]", "prompt is a number: currency units per million"),
    ("models: [{name: a, backend: fake, prices: {prompt: -1}}]", "prompt is at least 0"),
    ("models: [{name: a, backend: fake, prices: 3}]", "models.0.prices (a): Input should be"),
    ("models: [{name: a, backend: fake, prices: {prompt: 0.0000001}}]", "with six decimals at most"),
    (
        "models: [{name: a, backend: ollama, base: b}]",
        "base does not belong to backend ollama; did you mean",
    ),
    ("models: [{name: a, backend: fake, capabilities: []}]", "models.0.capabilities (a): Tuple should have at least 1"),
    ("models: [{name: a, backend: fake, fallbacks: [b]}]", "a: its fallback 'b' is not one of the models: a"),
    ("models: [{name: a, backend: fake, fallbacks: [a]}]", "a: its fallbacks lead back: a -> a"),
    (
        "models: [{name: a, backend: fake, fallbacks: [b]}, {name: b, backend: fake, load: off}]",
        "a: its fallback b is off",
    ),
    (
        "models: [{name: a, backend: fake, fallbacks: [b]}, {name: b, backend: fake, fallbacks: [a]}]",
        "a: its fallbacks lead back: a -> b -> a",
    ),
    (
        "models: [{name: a, backend: fake, fallbacks: [b]}, {name: b, backend: fake, capabilities: [chat]}]",
        "a: its fallback b lacks the capability generate",
    ),
    ("models: [{name: a, backend: adapter, base: b, path: x, load: off}]", "base 'b' is not a local model"),
    (
        "models: [{name: a, backend: adapter, base: b, path: x}, {name: b, path: y, load: off}]",
        "there is no adapter_config.json in",
    ),
    ("models: [{name: a/b, bakend: fake}]", "models.0.bakend (a/b): unknown key; did you mean 'backend'?"),
    ("models: [{name: a/b, qqqq: 1}]", "unknown key; valid keys: name, aliases, backend"),
    ("model: []", "model: unknown key; did you mean 'models'?"),
    ("models: [{path: x}]", "models.0.name: Field required"),
    ("models: [{name: ../up}]", "models.0.name (../up): String should match pattern"),
    ("models: [{name: a/../b}]", "models.0.name (a/../b): String should match pattern"),
    ("models: [{name: /etc/passwd}]", "models.0.name (/etc/passwd): String should match pattern"),
    ("models: [{name: a/b, aliases: ['..']}]", "models.0.aliases.0 (a/b): String should match pattern"),
    ("models: [{name: run_1, backend: fake}]", "begins with run_, which is kept for trained adapters"),
    ("models: [{name: a/b, backend: vllm}]", "models.0.backend (a/b): Input should be 'local', 'adapter', 'openai'"),
    ("models: [{name: a/b, load: maybe}]", "models.0.load (a/b): Input should be 'eager', 'lazy' or 'off'"),
    ("models: [{name: a/b, gpu: 'l40s:0'}]", "models.0.gpu (a/b): String should match pattern"),
    ("models: [{name: a/b, path: gone}]", "a/b: there is no config.json in"),
    ("models: [{name: a/b, load: eager}]", "a/b: it is not in"),
    ("models: [{name: a/b, backend: fake, path: x}]", "models.0 (a/b): path does not belong to backend fake"),
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


REMOTE = """
models:
  - {name: far, backend: openai, base_url: "https://far.example/v1/", api_key_env: FAR_KEY, prices: {prompt: 0.15}}
"""


def test_the_key_of_an_upstream_stays_in_the_environment(tmp_path: Path) -> None:
    registry = ModelRegistry(_write(tmp_path, REMOTE), environ={"FAR_KEY": "sk-secret"})
    entry = registry.entry("far")
    assert registry.upstream_key("far") == "sk-secret"
    assert "sk-secret" not in f"{entry!r}{registry.get_model('far')}"
    assert (entry.url, entry.trainable, entry.is_remote) == ("https://far.example/v1", False, True)
    assert (entry.prices.prompt, entry.prices.completion) == (150_000, 0)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "far: the environment variable FAR_KEY (api_key_env) is not set"),
        (" ", "is not set"),
        ("sk-a b", "the environment variable FAR_KEY holds no key"),
    ],
)
def test_a_key_that_is_not_there_is_an_error_that_names_its_variable(
    tmp_path: Path, value: str | None, says: str
) -> None:
    with pytest.raises(errors.ConfigError) as caught:
        ModelRegistry(_write(tmp_path, REMOTE), environ={} if value is None else {"FAR_KEY": value})
    assert says in caught.value.message
    assert "sk-a" not in caught.value.message


def test_a_model_that_is_off_needs_no_key(tmp_path: Path) -> None:
    text = "models: [{name: a, backend: ollama, api_key_env: FAR_KEY, load: off}]"
    registry = ModelRegistry(_write(tmp_path, text), environ={})
    assert registry.upstream_key("a") is None
    assert registry.entry("a").url == "http://127.0.0.1:11434"


def test_fallbacks_of_fallbacks_come_after_them_and_each_once(tmp_path: Path) -> None:
    text = """
models:
  - {name: a, backend: fake, fallbacks: [b, c]}
  - {name: b, backend: fake, fallbacks: [d]}
  - {name: c, backend: fake, fallbacks: [d], aliases: [see]}
  - {name: d, backend: fake}
"""
    registry = _registry(tmp_path, text)
    assert [entry.name for entry in registry.chain("a")] == ["a", "b", "d", "c"]
    assert [entry.name for entry in registry.chain("see")] == ["c", "d"]


def test_an_adapter_lies_on_a_local_model(tmp_path: Path) -> None:
    _model(tmp_path, "base")
    adapter = _model(tmp_path, "adapter")
    (adapter / "adapter_config.json").write_text("{}")
    text = "models: [{name: b, path: base}, {name: a, backend: adapter, base: b, path: adapter}]"
    entry = _registry(tmp_path, text).entry("a")
    assert (entry.base, entry.path, entry.trainable) == ("b", adapter, False)
    with pytest.raises(errors.ConfigError, match="its base b is off; write load: off here too"):
        _registry(tmp_path, text.replace("path: base", "path: base, load: off"))


def test_reading_again_replaces_everything_at_once_and_keeps_what_is_equal(tmp_path: Path) -> None:
    path = _write(tmp_path, "models: [{name: a, backend: fake}, {name: b, backend: fake}]")
    registry = ModelRegistry(path)
    told: list[Change] = []
    registry.on_change(told.append)
    before = registry.entry("a")
    path.write_text("default_model: c\nmodels: [{name: a, backend: fake}, {name: c, backend: fake}]")
    change = registry.reload()
    assert (change.added, change.removed, change.changed) == (("c",), ("b",), ())
    assert told == [change]
    assert registry.entry("a") is before
    assert (registry.list_models(), registry.default_model) == (["a", "c"], "c")
    path.write_text("default_model: c\nmodels: [{name: a, backend: fake, family: x}, {name: c, backend: fake}]")
    assert registry.reload().changed == ("a",)
    assert registry.entry("a").family == "x"


@pytest.mark.parametrize("content", ["models: [{name: a, backend: vllm}]", "a: [", None])
def test_a_bad_file_changes_nothing(tmp_path: Path, content: str | None) -> None:
    path = _write(tmp_path, "models: [{name: a, backend: fake}]")
    registry = ModelRegistry(path)
    told: list[Change] = []
    registry.on_change(told.append)
    before = registry.entry("a")
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(errors.ConfigError):
        registry.reload()
    assert registry.entry("a") is before
    assert told == []


def test_another_key_makes_another_entry(tmp_path: Path) -> None:
    environ = {"FAR_KEY": "sk-1"}
    registry = ModelRegistry(_write(tmp_path, REMOTE), environ=environ)
    before = registry.entry("far")
    assert registry.reload().changed == ()
    environ["FAR_KEY"] = "sk-2"
    assert registry.reload().changed == ("far",)
    assert registry.entry("far") is not before


def test_the_revision_changes_with_what_decides_about_answers(tmp_path: Path) -> None:
    directory = _model(tmp_path)
    registry = _registry(tmp_path, "models: [{name: a, path: mine}]")
    same = _registry(tmp_path, "models: [{name: a, path: mine, aliases: [b], prices: {prompt: 3}}]")
    assert same.entry("a").revision == registry.entry("a").revision
    (directory / "config.json").write_text("{ }")
    assert _registry(tmp_path, "models: [{name: a, path: mine}]").entry("a").revision != registry.entry("a").revision


def test_the_catalog_of_the_package_can_be_read_again() -> None:
    assert ModelRegistry().reload().changed == ()


def test_a_file_names_the_model_of_the_package_without_a_path(tmp_path: Path) -> None:
    registry = _registry(tmp_path, "models: [{name: trainyard/pocket, load: eager}]")
    (brought,) = ModelRegistry().entries
    assert registry.entry("trainyard/pocket").path == brought.path


def test_new_settings_can_name_another_file(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / f"{name}.yaml").write_text(f"models: [{{name: {name}, backend: fake}}]")
    registry = ModelRegistry(tmp_path / "old.yaml")
    change = registry.reload(Settings(models_file=tmp_path / "new.yaml"))
    assert (change.added, change.removed) == (("new",), ("old",))
    with pytest.raises(errors.ConfigError):
        registry.reload(Settings(models_file=tmp_path / "gone.yaml"))
    assert registry.reload().changed == ()
    assert registry.list_models() == ["new"]
