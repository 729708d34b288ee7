"""Content-addressed storage: bytes in, their SHA-256 out, the same bytes back or an error.

Not here: names, owners and life times; the stores of the capabilities keep those beside the hash.
"""

from trainyard.core.blobs.base import Blob, BlobStore, begun
from trainyard.core.blobs.directory import DirectoryBlobs
from trainyard.core.blobs.memory import MemoryBlobs

__all__ = ["Blob", "BlobStore", "DirectoryBlobs", "MemoryBlobs", "begun"]
