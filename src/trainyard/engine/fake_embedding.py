"""Vectors without a model: deterministic, and different wherever a real model's would be."""

import hashlib
from typing import Final

import numpy as np

from trainyard.engine import types

DIMENSIONS: Final = 16


class FakeEmbedding:
    """One step per text; a vector is a hash of the text, the settings and the weights, of length 1 when asked."""

    def __init__(self, request: types.EmbedRequest, texts: list[list[int]], version: str) -> None:
        self._request, self._texts, self._version = request, texts, version
        self._steps_left = len(texts)

    def step(self) -> bool:
        """Compute nothing."""
        self._steps_left -= 1
        return self._steps_left <= 0

    def result(self) -> types.EmbedResult:
        """Make the vectors up, the same ones each time."""
        return types.EmbedResult(
            vectors=tuple(self._vector(text) for text in self._texts),
            dimensions=DIMENSIONS,
            tokens=sum(map(len, self._texts)),
            weights_version=self._version,
        )

    def close(self) -> None:
        """Hold nothing."""

    def _vector(self, text: list[int]) -> bytes:
        pooled = {"mean": text, "last_token": text[-1:], "cls_token": text[:1]}[self._request.pooling]
        seed = f"{pooled}|{self._request.layer}|{self._version}"
        digest = hashlib.blake2b(seed.encode(), digest_size=2 * DIMENSIONS).digest()
        numbers = np.frombuffer(digest, dtype="<u2").astype(np.float64) / 2**15 - 1.0
        return types.float32(list(numbers / np.linalg.norm(numbers) if self._request.normalize else numbers))
