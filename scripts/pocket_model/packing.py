"""Packs documents into windows of one length, with a weight per token.

Shape letters: B windows, T tokens of a window.
"""

from collections.abc import Iterator

import tokenizers
import torch
from torch import Tensor

from scripts.pocket_model.exchange import Document
from scripts.pocket_model.tokenizer import END, END_OF_TEXT_ID, START

# Requests and system messages are mostly drawn at random; full weight on them would spend the model on guessing draws.
PROMPT_WEIGHT = 0.15
_BUFFER = 128

Row = tuple[list[int], list[float]]


def encode(document: Document, tokenizer: tokenizers.Tokenizer) -> Row:
    """Turn a document into ids and weights: 1 for answers and plain text, less for what the user and the system say."""
    if not document.turns:
        ids = [*tokenizer.encode(document.text).ids, END_OF_TEXT_ID]
        return ids, [1.0] * len(ids)
    ids, weights = [], []
    for role, content in document.turns:
        head = tokenizer.encode(f"{START}{role}\n").ids
        body = tokenizer.encode(f"{content}{END}").ids
        ids += [*head, *body, *tokenizer.encode("\n").ids]
        weights += [0.0] * len(head) + [1.0 if role == "assistant" else PROMPT_WEIGHT] * len(body) + [0.0]
    return [*ids, END_OF_TEXT_ID], [*weights, PROMPT_WEIGHT]


def rows(documents: Iterator[Document], tokenizer: tokenizers.Tokenizer, length: int) -> Iterator[Row]:
    """Fill windows with whole documents, always the longest that fits; documents longer than a window are dropped.

    Yields:
        ids and weights, both of `length`; the unused end has weight 0.
    """
    encoded = (row for row in (encode(document, tokenizer) for document in documents) if len(row[0]) <= length)
    buffer = [next(encoded) for _ in range(_BUFFER)]
    while True:
        ids, weights = buffer.pop(0)
        buffer.append(next(encoded))
        ids, weights = list(ids), list(weights)
        while fitting := [row for row in buffer if len(row[0]) <= length - len(ids)]:
            chosen = max(fitting, key=lambda row: len(row[0]))
            buffer.remove(chosen)
            buffer.append(next(encoded))
            ids += chosen[0]
            weights += chosen[1]
        padding = length - len(ids)
        yield ids + [END_OF_TEXT_ID] * padding, weights + [0.0] * padding


def batches(
    documents: Iterator[Document], tokenizer: tokenizers.Tokenizer, length: int, count: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Stack windows: tokens_BT int64 and weights_BT float32."""
    stream = rows(documents, tokenizer, length)
    while True:
        drawn = [next(stream) for _ in range(count)]
        yield torch.tensor([ids for ids, _ in drawn]), torch.tensor([weights for _, weights in drawn])
