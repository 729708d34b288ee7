"""Headers of an answer as they stand on the wire: lines, names in lower case, each with its end."""


def pairs(lines: bytes) -> list[tuple[bytes, bytes]]:
    """Take lines apart, for what wants names and values."""
    made = []
    for line in lines.splitlines():
        name, _, value = line.partition(b": ")
        made.append((name, value))
    return made
