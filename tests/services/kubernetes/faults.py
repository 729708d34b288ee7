"""What goes wrong on purpose: answers that come instead of the right ones."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.services.kubernetes import answers
from tests.services.kubernetes.answers import Refused


@dataclass
class Fault:
    """An answer for the next `times` requests of one verb on one resource.

    Attributes:
        verb: `get list watch create update patch delete`; `*` = any.
        resource: Plural; `*` = any.
        times: How often; None = until it is taken back.
    """

    verb: str
    resource: str
    make: Callable[[], Refused]
    times: int | None = 1
    met: int = 0

    def takes(self, verb: str, resource: str) -> bool:
        return self.verb in ("*", verb) and self.resource in ("*", resource) and self.times != self.met


@dataclass
class Faults:
    """Those that wait."""

    waiting: list[Fault] = field(default_factory=list)

    def add(self, fault: Fault) -> Fault:
        self.waiting.append(fault)
        return fault

    def clear(self) -> None:
        self.waiting.clear()

    def check(self, verb: str, resource: str) -> None:
        for fault in self.waiting:
            if fault.takes(verb, resource):
                fault.met += 1
                raise fault.make()

    def too_many(self, verb: str, resource: str, times: int | None = 1, retry_after_s: int = 1) -> Fault:
        """429 with Retry-After."""
        return self.add(
            Fault(
                verb,
                resource,
                lambda: Refused(429, "TooManyRequests", answers.TOO_MANY, retry_after_s=retry_after_s),
                times,
            )
        )

    def internal(self, verb: str, resource: str, times: int | None = 1) -> Fault:
        """500, as when etcd has lost its leader."""
        return self.add(
            Fault(verb, resource, lambda: Refused(500, "InternalError", "etcdserver: leader changed"), times)
        )

    def conflicts(self, verb: str, resource: str, times: int | None = 1) -> Fault:
        """409, as when somebody else was faster."""
        return self.add(Fault(verb, resource, lambda: answers.conflict(resource, "it"), times))

    def gone(self, times: int | None = 1) -> Fault:
        """410 to a watch of pods."""
        return self.add(Fault("watch", "pods", lambda: answers.expired(1, 2), times))
