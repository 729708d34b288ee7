"""A PEFT directory as a model of the catalog says what peft itself says with it, on the pocket model."""

from pathlib import Path

import peft
import pytest
import torch
import transformers

import trainyard.engine
from tests.contract.engine import tiny_models as tiny
from trainyard.core.catalog import ModelRegistry
from trainyard.engine.core import EngineCore
from trainyard.engine.fake import FakeEngines
from trainyard.engine.inline import InlineEngine
from trainyard.engine.tokenizer import Tokenizers
from trainyard.serving.backends.adapter import AdapterBackend
from trainyard.serving.backends.local import LocalBackend
from trainyard.serving.types import Ask, Target

pytestmark = pytest.mark.filterwarnings(tiny.PEFT_WARNING)

POCKET = Path(trainyard.engine.__file__).parent / "pocket"
PROMPT = "The harbour is"
TOKENS = 12


@torch.no_grad()
def with_peft(directory: Path) -> list[int]:
    """Save an adapter that changes what the model says, and continue the prompt greedily with it."""
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_pretrained(POCKET, dtype=torch.float32)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
    tuned = peft.get_peft_model(model, config)
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    tuned.save_pretrained(directory)
    ids = torch.tensor([Tokenizers(ModelRegistry()).get("pocket").encode(PROMPT)])
    answer = tuned.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        min_new_tokens=TOKENS,
        max_new_tokens=TOKENS,
    )
    said: list[int] = answer[0, ids.shape[1] :].tolist()
    return said


async def test_a_saved_adapter_is_a_model(tmp_path: Path) -> None:
    expected = with_peft(tmp_path / "adapter")
    (tmp_path / "models.yaml").write_text(
        f"models: [{{name: pocket, path: {POCKET}}}, {{name: tuned, backend: adapter, base: pocket, path: adapter}}]"
    )
    models = ModelRegistry(tmp_path / "models.yaml")
    engine = InlineEngine(EngineCore(POCKET, "pocket", device="cpu", threads=1))
    tokenizers = Tokenizers(models)
    local = LocalBackend(FakeEngines({"pocket": engine}), tokenizers)
    ask = Ask(model=None, prompts=[PROMPT], param="prompt", default_max_tokens=TOKENS, temperature=0.0, logprobs=0)
    try:
        (tuned,) = await AdapterBackend(models, local).prepare(Target("tuned", "tuned"), ask)
        (plain,) = await local.prepare(Target("pocket", "pocket"), ask)
        said, without = await tuned.collect(0, 60), await plain.collect(0, 60)
    finally:
        await engine.aclose()
    spelled = [tokenizers.get("pocket").token_bytes(token) for token in expected]
    assert [token.raw for token in said.tokens] == spelled[: len(said.tokens)]
    assert len(said.tokens) >= TOKENS // 2
    assert said.text != without.text
