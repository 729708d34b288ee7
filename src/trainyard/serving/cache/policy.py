"""Whether a request may be answered from the cache, and whether its answer is kept."""

from dataclasses import dataclass

from trainyard.core import errors
from trainyard.serving.types import Ask


@dataclass(frozen=True, slots=True)
class Policy:
    """What the caller wishes.

    Attributes:
        reads: A kept answer is good enough.
        keeps: The answer may be kept.
        is_asked: Also where the answer is drawn by chance (temperature above 0 and no seed).
        max_age_s: Age over which a kept answer is not good enough; None = any.
    """

    reads: bool = True
    keeps: bool = True
    is_asked: bool = False
    max_age_s: float | None = None

    def allows(self, ask: Ask) -> bool:
        """Whether this request has to do with the cache at all."""
        return (self.reads or self.keeps) and (self.is_asked or is_deterministic(ask))


DEFAULT = Policy()
NEVER = Policy(reads=False, keeps=False)


def is_deterministic(ask: Ask) -> bool:
    """Whether the same request gives the same answer: greedy, or drawn from a seed."""
    return ask.temperature == 0 or ask.seed is not None


def read(cache_control: str | None, wish: bool | None = None) -> Policy:
    """Read the header `Cache-Control` and the field `cache` of a body; the header goes first.

    Directives: `no-store` (neither read nor kept), `no-cache` (not read, but kept), `max-age=S` (asks for the cache
    even where the answer is drawn by chance; an answer that is older than S seconds is not used). Others mean nothing
    to a cache of answers, and HTTP has them ignored.

    Raises:
        errors.InvalidRequest: `max-age` is no number of seconds.
    """
    if cache_control is None:
        return DEFAULT if wish is None else Policy(is_asked=True) if wish else NEVER
    directives = [part.strip().lower() for part in cache_control.split(",")]
    if "no-store" in directives or (wish is False and "no-cache" not in directives):
        return NEVER
    if "no-cache" in directives:
        return Policy(reads=False, is_asked=bool(wish))
    ages = [part.removeprefix("max-age=") for part in directives if part.startswith("max-age=")]
    if not ages:
        return read(None, wish)
    age = ages[0].strip('"')
    if not (age.isascii() and age.isdecimal() and len(age) < 10):
        raise errors.InvalidRequest("Cache-Control: max-age is a whole number of seconds", param="Cache-Control")
    return Policy(reads=age != "0", is_asked=True, max_age_s=float(age))
