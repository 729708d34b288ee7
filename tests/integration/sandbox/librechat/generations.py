"""The generations of LibreChat's client: one published version of its package each."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Generation:
    """One version of `@librechat/agents` and how LibreChat used it.

    Attributes:
        name: Of its snapshots.
        version: Of the package.
        until: A day after its release, with what it depended on then.
        node: Oldest Node.js that it runs on.
        driver: The file that makes and calls its tools.
        base: Path of the base URL that it is given here; both that are served have their turn.
    """

    name: str
    version: str
    until: str
    node: int
    driver: str
    base: str

    @property
    def has_node(self) -> bool:
        """Whether the client itself keeps session and files from call to call; else the model names the session."""
        return self.driver != "generation_a.cjs"

    @property
    def has_tokens(self) -> bool:
        """Whether LibreChat signs tokens for it; else it has an API key."""
        return self.driver == "generation_c.cjs"


A = Generation("a", "3.0.50", "2026-03-22", 20, "generation_a.cjs", "/v1/code")
B = Generation("b", "3.1.77", "2026-05-20", 20, "generation_b.cjs", "")
C = Generation("c", "3.2.21", "2026-07-20", 20, "generation_c.cjs", "")
NEWEST = Generation("c-newest", "3.9.2", "2026-09-26", 24, "generation_c.cjs", "/v1/code")
ALL = (A, B, C, NEWEST)
