"""The shapes that are measured, fixed so that numbers of different days compare."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A random Llama and why it is measured.

    Attributes:
        name: Stands in every result.
        why: What this shape shows that the other does not.
    """

    name: str
    why: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int
    tied: bool

    def config(self) -> dict[str, object]:
        """Give the arguments of transformers' `LlamaConfig`."""
        return {
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "vocab_size": self.vocab,
            "tie_word_embeddings": self.tied,
            "max_position_embeddings": 1024,
        }


TRAINING = (
    Shape("1.2M", "overhead per call and per operation decides", 128, 384, 5, 4, 4, 1024, True),
    Shape("8.7M", "matrix products decide", 320, 864, 6, 5, 5, 2048, False),
)
TRAINING_ROWS, TRAINING_TOKENS = 16, 128
"""One call of a supervised fine-tune: 2,048 tokens, equally long so that the rival wastes nothing on padding."""
RANK, ALPHA = 16, 32.0
"""The middle of the ranks 8 to 32 that are usual; all seven projections are adapted."""

DECODE = (Shape("32M", "reading the weights decides", 512, 1376, 8, 8, 8, 8192, False),)
DECODE_STREAMS, DECODE_PROMPT, DECODE_NEW = 16, (32, 127), 64
"""Sixteen at once, prompts of 32 to 127 tokens, 64 new ones each; the pocket model is the second shape."""

GATEWAY_SHAPE, GATEWAY_CONNECTIONS = "16x200B", 16
"""Sixteen kept connections with one request each: what a balancer or a busy application keeps open."""
GATEWAY_ALONE = "1x200B"
"""One connection: nothing is shared between requests, so each pays for waking up, for its own transaction and for its
own writes. Reported under names of its own."""
GATEWAY_BODY_BYTES = 200
"""A short question; the work of a gateway hardly depends on the length of what it passes on."""

CONTINUOUS_BATCHING = {"page_size": 32, "num_blocks": 112}
"""transformers' continuous batching, told the size of its memory: 16 streams of at most 191 tokens, 6 blocks each, and
16 to spare. Left to itself it takes what the machine has, and more time."""

SANDBOX_WIDTH = 10
"""Runs at the same moment: the burst that upstream quotes 45 ms for."""
SANDBOX_SESSIONS = 100
"""Live sessions: a team's worth on one machine."""
SANDBOX_STATE_BYTES = 50_000_000
"""A frame of 6.25 million random float64, which does not compress."""
