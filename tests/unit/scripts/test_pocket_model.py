from pathlib import Path

import jinja2
import pytest
import tokenizers
import torch

from scripts.pocket_model import __main__ as command
from scripts.pocket_model import measure, packing, train
from scripts.pocket_model import tokenizer as pocket_tokenizer
from scripts.pocket_model.exchange import Document, Exchange
from scripts.pocket_model.plan import Plan
from trainyard.engine import loading
from trainyard.engine.model import Decoder

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def learned() -> tokenizers.Tokenizer:
    return pocket_tokenizer.train(["the cat sat on the mat 12 times"] * 5, 300)


def test_quick_writes_a_model_that_loads_and_a_card(tmp_path: Path) -> None:
    command.main(["--quick", "--out", str(tmp_path), "--threads", "1"])
    decoder = loading.load_decoder(tmp_path)
    assert decoder(torch.tensor([[1, 2, 3]])).shape == (1, 3, 512)
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert "| optimiser steps | 8 |" in (tmp_path / "CARD.md").read_text(encoding="utf-8")


def test_quick_refuses_to_replace_the_shipped_model() -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(["--quick"])
    assert stopped.value.code == 2


def test_weights_are_on_what_the_assistant_says(learned: tokenizers.Tokenizer) -> None:
    document = Document(("x",), (("user", "cat"), ("assistant", "the mat")))
    ids, weights = packing.encode(document, learned)
    full = [one for one, weight in zip(ids, weights, strict=True) if weight == 1.0]
    assert learned.decode(full, skip_special_tokens=False) == "the mat<|im_end|>"
    assert learned.decode(ids, skip_special_tokens=False) == pocket_tokenizer.render(document)


def test_windows_hold_whole_documents_and_padding_without_weight(learned: tokenizers.Tokenizer) -> None:
    documents = iter([Document(("x",), text="the cat sat " * (1 + number % 5)) for number in range(400)])
    for ids, weights in [row for row, _ in zip(packing.rows(documents, learned, 40), range(20), strict=False)]:
        end = weights.index(0.0) if 0.0 in weights else 40
        assert (len(ids), len(weights)) == (40, 40)
        assert ids[end - 1] == pocket_tokenizer.END_OF_TEXT_ID
        assert set(weights[end:]) <= {0.0}


def test_the_loss_is_the_mean_over_weighted_tokens_only() -> None:
    decoder = Decoder(Plan().quick().config())
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.zero_()
    tokens, weights = torch.tensor([[5, 6, 7, 8]]), torch.tensor([[1.0, 0.0, 1.0, 1.0]])
    assert train.loss_of(decoder, tokens, weights).item() == pytest.approx(6.2383, abs=1e-3)  # ln 512


@pytest.mark.parametrize(("done", "share"), [(0.0, 0.0667), (0.015, 0.5), (0.03, 1.0), (0.515, 0.505), (1.0, 0.01)])
def test_the_rate_warms_up_and_falls(done: float, share: float) -> None:
    assert train.learning_rate(done) == pytest.approx(share, abs=1e-3)


@pytest.mark.parametrize(
    ("plan", "step", "cpu_seconds", "seconds", "done"),
    [
        (Plan(minutes=2, wall_minutes=4), 99, 30, 40, 0.25),
        (Plan(minutes=2, wall_minutes=4), 99, 30, 120, 0.5),
        (Plan(steps=8), 2, 99, 99, 0.25),
    ],
)
def test_the_budget_is_processor_minutes_within_a_time_or_steps(
    plan: Plan, step: int, cpu_seconds: float, seconds: float, done: float
) -> None:
    assert plan.done(step, cpu_seconds, seconds) == done


def test_an_answer_counts_as_right_exactly_when_greedy_decoding_writes_it(learned: tokenizers.Tokenizer) -> None:
    torch.manual_seed(0)
    decoder = Decoder(Plan(vocab_size=300, hidden=32, layers=1, heads=2, kv_heads=1, intermediate=64).config()).eval()
    written = measure.sample(decoder, learned, "cat", torch.Generator(), 0, limit=4)
    wrong = Exchange("x/y/0", "cat", "mat", ("mat",))
    assert measure.score(decoder, learned, [wrong])["x"].right == int(written == "mat")


@pytest.mark.parametrize("is_trimmed", [False, True])
def test_the_chat_template_renders_what_training_read(is_trimmed: bool) -> None:
    turns = (("system", "Be kind."), ("user", "a\nb"), ("assistant", "c"))
    environment = jinja2.Environment(  # noqa: S701 - the text goes to a model, not to a browser
        undefined=jinja2.StrictUndefined, trim_blocks=is_trimmed, lstrip_blocks=is_trimmed
    )
    template = environment.from_string(pocket_tokenizer.CHAT_TEMPLATE)
    messages = [{"role": role, "content": content} for role, content in turns]
    rendered = template.render(messages=messages)
    assert rendered + pocket_tokenizer.END_OF_TEXT == pocket_tokenizer.render(Document(("x",), turns))
    assert template.render(messages=messages, add_generation_prompt=True) == rendered + "<|im_start|>assistant\n"
