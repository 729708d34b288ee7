"""Labels and annotations of everything that boxes are made of."""

from typing import Final

INSTALLATION: Final = "trainyard.dev/installation"
FLAVOR: Final = "trainyard.dev/flavor"
GENERATION: Final = "trainyard.dev/generation"
"""Hash of what the server would make: pods of another one are never handed out."""

STATE: Final = "trainyard.dev/state"
WARM, CLAIMED = "warm", "claimed"
HOLDER: Final = "trainyard.dev/holder"
"""The lease of the server that a claimed pod belongs to."""

TOKEN: Final = "trainyard.dev/token"  # noqa: S105 - the name of an annotation
"""Whoever may read pods of the namespace can read it; it is good for one connection."""

JOB: Final = "batch.kubernetes.io/job-name"
"""Set by the cluster on the pod of a job."""
