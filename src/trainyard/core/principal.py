"""Who acts: the identity that every service call carries."""

from dataclasses import dataclass

SCOPES = ("train", "generate", "execute", "graph", "loadtest", "admin")
"""Every scope a key can have; `all` stands for all of them where scopes are written down."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The owner on whose behalf a call runs.

    Attributes:
        tenant: Organisation; the border of isolation.
        user: Person or robot inside the tenant; runs belong to users.
        key_id: Id of the key that authenticated the call (`key_…`), never the key.
        scopes: Subset of `SCOPES`.
    """

    tenant: str
    user: str
    key_id: str
    scopes: frozenset[str]

    @property
    def is_admin(self) -> bool:
        """Whether this principal may see and change what belongs to others."""
        return "admin" in self.scopes
