"""What a box is told as its argument: JSON that says how it is locked down and what it loads."""

import json
from dataclasses import asdict, dataclass

from trainyard.sandbox.inside.lockdown.limits import Limits
from trainyard.sandbox.inside.zygote.assignment import Flavor


@dataclass(frozen=True)
class Order:
    """One box.

    Attributes:
        landlock_abi: See `birth.Protection`, as the next two.
        has_packages: Whether there are packages to import from.
        is_trial: It tells what it is and ends.
    """

    limits: Limits
    flavor: Flavor
    landlock_abi: int
    has_seccomp: bool
    counts_processes: bool
    has_packages: bool
    is_trial: bool

    def encode(self) -> str:
        """Write it."""
        return json.dumps(asdict(self))


def decode(text: str) -> Order:
    """Read it."""
    fields = json.loads(text)
    return Order(**{**fields, "limits": Limits(**fields["limits"])})
