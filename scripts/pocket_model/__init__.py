"""Makes the pocket model: text, tokenizer, training, measurements and the card, in one command.

In: a seed and a time budget in minutes. Out: a directory that `transformers` and trainyard's engine load. Everything
the model reads is generated here from the word lists under `data/`; nothing is downloaded.
"""
