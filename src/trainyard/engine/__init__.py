"""The numeric heart: one process per base model that trains and samples LoRA adapters over frozen weights.

In: token ids with targets and weights, prompts as token ids. Out: losses, tokens, log-probabilities, PEFT files.
Texts become tokens in the caller (`tokenizer`). Knows no HTTP, no users, no database.
Importing `base`, `types`, `protocol`, `client`, `tokenizer`, `config`, `pool` or `fake` imports no torch.
"""
