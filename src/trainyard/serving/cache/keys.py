"""Under which key an answer is kept: everything that it depends on, and nothing else."""

import hashlib
import operator
from typing import Final

import msgspec

from trainyard.serving.types import Ask, Target

IRRELEVANT: Final = frozenset({"model", "param", "end_user", "max_tokens", "default_max_tokens"})
"""Fields of `Ask` that the key leaves out as they stand: the target says which model, and the two lengths are one."""

_relevant = operator.attrgetter(*[name for name in Ask.__struct_fields__ if name not in IRRELEVANT])
_encode = msgspec.msgpack.Encoder().encode


def key_of(tenant: str, target: Target, ask: Ask, revision: str) -> bytes:
    """Hash who asks, what answers and what is asked; 32 bytes.

    A length that is named counts by itself, so that dialects with different defaults share answers; every new field of
    `Ask` counts unless it is listed as irrelevant.
    """
    length = (ask.default_max_tokens, True) if ask.max_tokens is None else (ask.max_tokens, False)
    return hashlib.sha256(_encode((tenant, target.name, revision, length, _relevant(ask)))).digest()
