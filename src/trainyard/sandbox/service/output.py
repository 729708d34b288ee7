"""What a run has written, as text."""

from trainyard.sandbox.types.orders import Stream


def shown(kept: bytes, stream: Stream) -> str:
    """Decode what is kept of a stream, with a line between head and tail where something is left out."""
    if not stream.is_cut:
        return kept.decode(errors="replace")
    head, tail = kept[: stream.head_bytes], kept[stream.head_bytes :]
    left_out = stream.total_bytes - stream.kept_bytes
    return f"{_whole_end(head)}\n[... {left_out} bytes left out ...]\n{_whole_begin(tail)}"


def _whole_end(head: bytes) -> str:
    """Decode without the part of a character at the end, which the cut has made."""
    for back in range(1, min(4, len(head)) + 1):
        byte = head[-back]
        if byte & 0xC0 == 0x80:  # in the middle of a character
            continue
        length = 1 if byte < 0xC0 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
        return (head[:-back] if length > back else head).decode(errors="replace")
    return head.decode(errors="replace")


def _whole_begin(tail: bytes) -> str:
    """Decode without the rest of a character at the begin."""
    skip = next((n for n, byte in enumerate(tail[:4]) if byte & 0xC0 != 0x80), 0)
    return tail[min(skip, 3) :].decode(errors="replace")
