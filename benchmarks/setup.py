"""Checks the rivals: transformers and peft come with the dev group, so no environment of their own is built."""

import importlib.metadata
import importlib.util
import sys

RIVALS = ("transformers", "peft")


def main() -> int:
    """Say which rivals are there; 1 when one is missing."""
    missing = [name for name in RIVALS if importlib.util.find_spec(name) is None]
    for name in RIVALS:
        state = "missing" if name in missing else importlib.metadata.version(name)
        print(f"{name}: {state} (in the development environment, not under .bench/)")
    if missing:
        print(f"install the dev group first: make setup ({', '.join(missing)} missing)")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
