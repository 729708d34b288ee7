"""Row c: our logits are those of transformers."""

from pathlib import Path

import pytest
import torch

import trainyard.engine
from tests.contract.engine import tiny_models
from trainyard.core import errors
from trainyard.engine import loading

POCKET = Path(trainyard.engine.__file__).parent / "pocket"


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_logits_of_every_family_equal_transformers(family: str, tmp_path: Path) -> None:
    directory = tiny_models.save_random(family, tmp_path)
    tokens = torch.randint(tiny_models.VOCAB, (2, 50), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        theirs = tiny_models.reference(directory)(tokens).logits
        ours = loading.load_decoder(directory)(tokens)
    assert theirs.abs().max() > 1.0
    assert (ours - theirs).abs().max() < 1e-4


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_a_saved_decoder_is_read_by_transformers(family: str, tmp_path: Path) -> None:
    decoder = loading.load_decoder(tiny_models.save_random(family, tmp_path / "a"))
    loading.save_decoder(decoder, tmp_path / "b")
    tokens = torch.arange(40)[None]
    with torch.no_grad():
        assert (tiny_models.reference(tmp_path / "b")(tokens).logits - decoder(tokens)).abs().max() < 1e-4


def test_the_pocket_model_equals_transformers() -> None:
    decoder = loading.load_decoder(POCKET)
    tokens = torch.randint(decoder.cfg.vocab_size, (1, 200), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert (tiny_models.reference(POCKET)(tokens).logits - decoder(tokens)).abs().max() < 1e-4


def test_sharded_weights_are_read(tmp_path: Path) -> None:
    whole = tiny_models.save_random("llama", tmp_path / "whole")
    tiny_models.reference(whole).save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert (tmp_path / "shards" / "model.safetensors.index.json").exists()
    one, many = (loading.load_decoder(tmp_path / name).state_dict() for name in ("whole", "shards"))
    assert all(torch.equal(one[name], many[name]) for name in one)


def test_a_file_without_a_needed_tensor_is_refused_by_its_name(tmp_path: Path) -> None:
    directory = tiny_models.save_random("llama", tmp_path)
    text = (directory / "config.json").read_text(encoding="utf-8")
    (directory / "config.json").write_text(text.replace('"attention_bias": false', '"attention_bias": true'))
    with pytest.raises(errors.ConfigError, match=r"k_proj\.bias"):
        loading.load_decoder(directory)


def test_a_tensor_of_another_shape_is_refused(tmp_path: Path) -> None:
    directory = tiny_models.save_random("llama", tmp_path)
    text = (directory / "config.json").read_text(encoding="utf-8")
    (directory / "config.json").write_text(text.replace('"intermediate_size": 48', '"intermediate_size": 40'))
    with pytest.raises(errors.ConfigError, match="gate_proj"):
        loading.load_decoder(directory)
