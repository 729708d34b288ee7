"""CTranslate2 beside us, in the environment `.bench/ct2`: converts a model and decodes a batch whenever it is asked.

Run as `python ct2_worker.py MODEL_DIR NEW_TOKENS` with the prompts as one JSON line on its standard input; every line
after that asks for one more round, which is answered with the CPU seconds of the generation alone and the tokens. One
thread, float32, greedy, all prompts as one static batch, the vocabulary as bare ids so that no tokenizer takes part.
"""

import json
import sys
import tempfile
import time

import ctranslate2
import torch
import transformers
from ctranslate2.converters.transformers import LlamaLoader


def convert(source: str, target: str) -> None:
    """Write a Llama in CTranslate2's format, unquantised."""
    model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    spec = LlamaLoader().get_model_spec(model)
    spec.register_vocabulary([f"t{i}" for i in range(model.config.vocab_size)])
    spec.config.unk_token, spec.config.bos_token, spec.config.eos_token = "t0", "t1", "t2"
    spec.config.layer_norm_epsilon = model.config.rms_norm_eps
    spec.validate()
    spec.optimize()
    spec.save(target)


def main() -> None:
    """Answer rounds until standard input ends."""
    source, new_tokens = sys.argv[1], int(sys.argv[2])
    prompts = [[f"t{i}" for i in ids] for ids in json.loads(sys.stdin.readline())]
    with tempfile.TemporaryDirectory() as target:
        convert(source, target)
        generator = ctranslate2.Generator(
            target, device="cpu", compute_type="float32", inter_threads=1, intra_threads=1
        )
        for _ in sys.stdin:
            start = time.process_time()
            results = generator.generate_batch(
                prompts,
                max_length=new_tokens,
                min_length=new_tokens,
                beam_size=1,
                sampling_topk=1,
                end_token=[],
                include_prompt_in_result=False,
            )
            cpu_s = time.process_time() - start
            print(json.dumps({"cpu_s": cpu_s, "tokens": [r.sequences_ids[0] for r in results]}), flush=True)


if __name__ == "__main__":
    main()
