"""Row e: what we save is what peft and transformers read."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.contract.engine import tiny_models as tiny
from trainyard.core import errors
from trainyard.engine import checkpoint, loading, peft_files
from trainyard.engine.adapters import AdapterTensors
from trainyard.engine.lora import apply_adapter
from trainyard.engine.model import Decoder
from trainyard.engine.trainer import Trainer

pytestmark = pytest.mark.filterwarnings(tiny.PEFT_WARNING)

TOKENS = torch.randint(tiny.VOCAB, (1, 40), generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tiny.save_random(request.param, tmp_path_factory.mktemp("model"))
    (path / "tokenizer.json").write_text("{}", encoding="utf-8")
    return path


@pytest.fixture
def trained(directory: Path) -> tuple[Decoder, AdapterTensors]:
    trainer = Trainer(loading.load_decoder(directory))
    run = trainer.open_run(tiny.run_spec("run_0", target_modules=("q_proj", "v_proj", "o_proj", "up_proj")))
    for step in range(3):
        tiny.train(trainer, [tiny.call("run_0", tiny.data((20, 30), seed=step))])
        trainer.optim_step("run_0", 0.05)
    return trainer.decoder, run.weights


def our_logits(decoder: Decoder, weights: AdapterTensors) -> torch.Tensor:
    """Compute logits with the adapter on every fused map."""

    def project(layer: int, group: str, linear: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = linear(x)
        apply_adapter(weights, layer, group, x.flatten(0, -2), y.flatten(0, -2))
        return y

    cos, sin = decoder.rope.upto(TOKENS.shape[1], decoder.device)
    x = decoder.embed(TOKENS)
    for block in decoder.layers:
        x = block(x, (cos[: TOKENS.shape[1], None], sin[: TOKENS.shape[1], None]), decoder._attend_batch, project)
    x = torch.nn.functional.rms_norm(x, (x.shape[-1],), decoder.norm, decoder.cfg.rms_eps)
    return torch.nn.functional.linear(x, decoder.output)


@torch.no_grad()
def test_peft_reads_a_saved_adapter(directory: Path, trained: tuple[Decoder, AdapterTensors], tmp_path: Path) -> None:
    decoder, weights = trained
    files = checkpoint.save_adapter(weights, tmp_path / "saved", "base", "run_0@3")
    assert set(files) == {"adapter_config.json", "adapter_model.safetensors"}
    theirs = peft.PeftModel.from_pretrained(tiny.reference(directory), tmp_path / "saved").eval()
    ours = our_logits(decoder, weights)
    assert (theirs(TOKENS).logits - ours).abs().max() < 1e-4
    assert (decoder(TOKENS) - ours).abs().max() > 0.1


@torch.no_grad()
def test_transformers_reads_a_merged_model_with_its_tokenizer_files(
    directory: Path, trained: tuple[Decoder, AdapterTensors], tmp_path: Path
) -> None:
    decoder, weights = trained
    files = checkpoint.save_merged(decoder, weights, tmp_path / "merged", directory)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(files)
    assert (tiny.reference(tmp_path / "merged")(TOKENS).logits - our_logits(decoder, weights)).abs().max() < 1e-4


def test_an_adapter_that_peft_wrote_is_read(directory: Path, tmp_path: Path) -> None:
    config = peft.LoraConfig(r=5, lora_alpha=7, target_modules=["k_proj", "down_proj"], use_rslora=True)
    theirs = peft.get_peft_model(tiny.reference(directory), config).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    theirs.save_pretrained(tmp_path / "foreign")
    decoder = loading.load_decoder(directory)
    weights, version = peft_files.load(decoder.cfg, tmp_path / "foreign", decoder.device)
    with torch.no_grad():
        assert (theirs(TOKENS).logits - our_logits(decoder, weights)).abs().max() < 1e-4
    assert version == "foreign"


def test_a_saved_adapter_keeps_its_version(trained: tuple[Decoder, AdapterTensors], tmp_path: Path) -> None:
    decoder, weights = trained
    checkpoint.save_adapter(weights, tmp_path / "saved", "base", "run_0@3")
    again, version = peft_files.load(decoder.cfg, tmp_path / "saved", decoder.device)
    assert version == "run_0@3"
    assert torch.equal(again.flat, weights.flat)


def test_a_checkpoint_is_never_overwritten(trained: tuple[Decoder, AdapterTensors], tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(errors.Conflict, match="exists already"):
        checkpoint.save_adapter(trained[1], tmp_path / "there", "base", "run_0@3")


def test_what_a_crash_left_behind_is_not_in_the_way(trained: tuple[Decoder, AdapterTensors], tmp_path: Path) -> None:
    (tmp_path / ".saved.new").mkdir()
    (tmp_path / ".saved.new" / "half").write_text("x")
    files = checkpoint.save_adapter(trained[1], tmp_path / "saved", "base", "run_0@3")
    assert "half" not in files
    assert [p.name for p in tmp_path.iterdir()] == ["saved"]


@pytest.mark.parametrize(
    ("field", "value"), [("use_dora", True), ("bias", "all"), ("rank_pattern", {"q_proj": 2}), ("peft_type", "IA3")]
)
def test_kinds_of_adapter_that_are_not_plain_lora_are_refused_by_field(
    field: str, value: object, trained: tuple[Decoder, AdapterTensors], tmp_path: Path
) -> None:
    decoder, weights = trained
    checkpoint.save_adapter(weights, tmp_path / "a", "base", "run_0@3")
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text(encoding="utf-8"))
    (tmp_path / "a" / "adapter_config.json").write_text(json.dumps(config | {field: value}))
    with pytest.raises(errors.InvalidRequest, match=field):
        peft_files.load(decoder.cfg, tmp_path / "a", decoder.device)


def rewritten(weights: AdapterTensors, place: Path, changes: dict[str, object]) -> Path:
    """Save an adapter with some fields of its configuration changed; None takes a field out."""
    checkpoint.save_adapter(weights, place, "base", "run_0@3")
    config = json.loads((place / peft_files.CONFIG).read_text(encoding="utf-8")) | changes
    kept = {name: value for name, value in config.items() if value is not None}
    (place / peft_files.CONFIG).write_text(json.dumps(kept), encoding="utf-8")
    return place


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"r": 0}, "r = 0"),
        ({"r": -4}, "r = -4"),
        ({"r": "four"}, "r = 'four'"),
        ({"r": None}, "r = None"),
        ({"r": 10**12}, "lora_A"),
        ({"lora_alpha": float("nan")}, "lora_alpha = nan"),
        ({"lora_alpha": None}, "lora_alpha = None"),
        ({"lora_alpha": 1e300}, "not finite"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_by_field(
    changes: dict[str, object], word: str, trained: tuple[Decoder, AdapterTensors], tmp_path: Path
) -> None:
    decoder, weights = trained
    with pytest.raises(errors.InvalidRequest, match=word) as caught:
        peft_files.load(decoder.cfg, rewritten(weights, tmp_path / "a", changes), decoder.device)
    assert caught.value.code == "adapter_unsupported"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda found: {name: tensor * math.nan for name, tensor in found.items()}, "not finite"),
        (lambda found: {name: tensor.int() for name, tensor in found.items()}, "float type"),
        (lambda found: {name: tensor for name, tensor in found.items() if "lora_A" in name}, "without"),
        (lambda found: {name: tensor for name, tensor in found.items() if "lora_B" in name}, "without"),
        (lambda found: found | {"a": torch.zeros(2)}, "no place"),
        (lambda found: {}, "no place"),
        (lambda found: {name: tensor[:-1] for name, tensor in found.items()}, "the model needs"),
    ],
    ids=["nan", "whole numbers", "no B", "no A", "short name", "empty", "shape"],
)
def test_tensors_that_cannot_be_are_refused(
    change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]],
    word: str,
    trained: tuple[Decoder, AdapterTensors],
    tmp_path: Path,
) -> None:
    decoder, weights = trained
    place = rewritten(weights, tmp_path / "a", {})
    save_file(change(load_file(place / peft_files.WEIGHTS)), place / peft_files.WEIGHTS)
    with pytest.raises(errors.InvalidRequest, match=word) as caught:
        peft_files.load(decoder.cfg, place, decoder.device)
    assert caught.value.code == "adapter_unsupported"


def test_a_list_is_no_configuration(trained: tuple[Decoder, AdapterTensors], tmp_path: Path) -> None:
    decoder, weights = trained
    place = rewritten(weights, tmp_path / "a", {})
    (place / peft_files.CONFIG).write_text("[]", encoding="utf-8")
    with pytest.raises(errors.InvalidRequest, match="not an object"):
        peft_files.load(decoder.cfg, place, decoder.device)


def test_a_directory_without_an_adapter_is_not_found(directory: Path) -> None:
    decoder = loading.load_decoder(directory)
    with pytest.raises(errors.NotFound, match="no adapter"):
        peft_files.load(decoder.cfg, directory, decoder.device)
