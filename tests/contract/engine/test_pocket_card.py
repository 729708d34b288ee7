import hashlib
import re
from itertools import islice
from pathlib import Path

import pytest
import transformers

from scripts.pocket_model import corpus
from scripts.pocket_model.__main__ import count
from trainyard.engine import config, loading, tokenizer

pytestmark = pytest.mark.contract
POCKET = Path(__file__).parents[3] / "src/trainyard/engine/pocket"


@pytest.fixture(scope="module")
def card() -> str:
    return (POCKET / "CARD.md").read_text(encoding="utf-8")


def _row(card: str, name: str) -> str:
    found = re.search(rf"^\| {re.escape(name)} \| (.*) \|$", card, re.MULTILINE)
    assert found, name
    return found.group(1)


def test_the_card_names_the_hash_of_the_weights(card: str) -> None:
    digest = hashlib.sha256((POCKET / "model.safetensors").read_bytes()).hexdigest()
    assert _row(card, "SHA-256 of `model.safetensors`") == f"`{digest}`"


def test_the_model_is_at_most_8_mb() -> None:
    assert sum(path.stat().st_size for path in POCKET.iterdir()) <= 8_000_000


def test_the_context_is_at_least_1024_and_was_trained_on(card: str) -> None:
    assert config.ModelConfig.from_directory(POCKET).max_positions >= 1024
    assert "trained on windows of up to 1024 tokens" in _row(card, "context")


def test_the_counts_of_the_card_are_true(card: str) -> None:
    seed = int(_row(card, "seed").split()[0])
    found = re.search(r"over the first (\d+) documents", card)
    assert found
    words, forms = count(islice(corpus.documents(seed), int(found.group(1))))
    assert (str(len(words)), str(len(forms))) == (_row(card, "distinct words"), _row(card, "distinct forms"))
    assert len(words) >= 1_500


def test_the_parameters_of_the_card_are_those_of_the_weights(card: str) -> None:
    decoder = loading.load_decoder(POCKET)
    assert _row(card, "parameters") == str(sum(parameter.numel() for parameter in decoder.parameters()))


def test_the_card_shows_ten_samples_with_their_seed(card: str) -> None:
    assert re.search(r"drawn with seed \d+", card)
    assert len(re.findall(r"^\d+\. \*\*", card, re.MULTILINE)) == 10


def test_sums_to_100_leave_something_to_learn(card: str) -> None:
    right = float(_row(card, "totals from 21 to 100").split("|")[1].strip(" %"))
    assert right < 95


def test_the_chat_template_works_in_transformers_as_in_our_tokenizer() -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(POCKET)
    ours = tokenizer.Tokenizer.from_directory(POCKET)
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "What is 12 + 7?"}]
    expected = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert ours.encode_chat(messages, add_generation_prompt=True) == expected
    assert theirs.decode(expected).endswith("<|im_start|>assistant\n")
