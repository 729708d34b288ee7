"""How a server and the runner of a pod make sure of each other over TCP: both know a token that is never sent.

    runner -> server   MAGIC, 32 random bytes
    server -> runner   32 random bytes, HMAC-SHA256(token, "server" + both random parts)
    runner -> server   HMAC-SHA256(token, "runner" + both random parts)

What follows are frames. Covered: whoever does not know the token learns nothing and gets no box. Not covered: bytes
after it are neither encrypted nor signed, so a network that can be read or written by others needs a plugin of the
cluster that encrypts. A token is good for one connection: the runner stops listening after it.
"""

import hashlib
import hmac
from typing import Final

MAGIC: Final = b"trainyard-box/1\n"
NONCE_BYTES: Final = 32
PROOF_BYTES: Final = hashlib.sha256().digest_size
HELLO_BYTES: Final = len(MAGIC) + NONCE_BYTES
REPLY_BYTES: Final = NONCE_BYTES + PROOF_BYTES


def prove(token: bytes, role: bytes, runner_nonce: bytes, server_nonce: bytes) -> bytes:
    """Make the proof of one side, whose role is `server` or `runner`."""
    return hmac.digest(token, role + runner_nonce + server_nonce, "sha256")


def is_proof(token: bytes, role: bytes, runner_nonce: bytes, server_nonce: bytes, proof: bytes) -> bool:
    """Check the proof of the other side, in the same time whatever is wrong with it."""
    return hmac.compare_digest(prove(token, role, runner_nonce, server_nonce), proof)
