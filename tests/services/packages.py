"""The environment that code in the sandbox imports from, shared by all tests; `make setup` makes it."""

from pathlib import Path

from tests.services.require import missing

PLACE = Path(__file__).parents[2] / ".sandbox" / "packages"


def require_packages() -> Path:
    """Find numpy, pandas, matplotlib and esbuild for the sandbox; ends the test where they were not made."""
    if not (PLACE / "made.json").is_file():
        missing(f"the environment of the sandbox ({PLACE.relative_to(PLACE.parents[1])})", "make setup")
    return PLACE.resolve()
