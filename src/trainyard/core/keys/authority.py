"""What an administrator may do with keys and tenants: never more than he may do himself."""

from dataclasses import dataclass

from trainyard.core import errors
from trainyard.core.keys.types import OPERATORS, KeyRecord
from trainyard.core.limits.types import Limits, Quota, Subject
from trainyard.core.settings import LimitSettings

_PERIOD = ("time_zone", "day", "reset_at")


@dataclass(frozen=True, slots=True)
class Authority:
    """An administrator, and the rules by which he changes keys.

    * He works within his own tenant; those of the tenant `default` are operators and work everywhere.
    * He gives no scope that his own key has not.
    * He gives no limit or quota above those of his own key, and does not move its period; operators may.
    * Whose key ends makes no administrator that lasts longer.

    Attributes:
        key: His own key.
        subject: What his own key is limited to.
        defaults: The server's limits, for keys that have none of their own.
    """

    key: KeyRecord
    subject: Subject
    defaults: LimitSettings

    @property
    def tenant(self) -> str:
        """The tenant in which he works."""
        return self.key.tenant

    @property
    def is_operator(self) -> bool:
        """Whether he looks after the whole server."""
        return self.key.tenant == OPERATORS

    def sees(self, tenant: str) -> bool:
        """Whether a tenant and its keys exist for him."""
        return self.is_operator or tenant == self.tenant

    def require_operator(self) -> None:
        """Refuse who is no operator.

        Raises:
            errors.Forbidden: Code `operators_only`.
        """
        if not self.is_operator:
            raise errors.Forbidden(
                f"Only operators, administrators of the tenant '{OPERATORS}', do this; your key is of '{self.tenant}'",
                code="operators_only",
            )

    def check_made(self, record: KeyRecord) -> None:
        """Judge a key that he makes, or receives the secret of by a rotation.

        Raises:
            errors.Forbidden: Codes `foreign_tenant`, `scope_not_held`, `outlives_its_maker`, `limit_above_own`.
        """
        if not self.sees(record.tenant):
            raise errors.Forbidden(
                f"Your key is of the tenant '{self.tenant}', so you make keys of it alone; operators, administrators "
                f"of '{OPERATORS}', make those of others",
                code="foreign_tenant",
                param="tenant",
            )
        self._check_scopes(record.scopes)
        self._check_lifetime(record)
        self._check_bars(record, list(_bars(Limits(), Quota())))

    def check_changed(self, before: KeyRecord, after: KeyRecord) -> None:
        """Judge a change of a key that he sees; taking away is always allowed, and what stays is not judged again.

        Raises:
            errors.Forbidden: As `check_made`, and `own_quota_period`.
        """
        self._check_scopes(after.scopes - before.scopes)
        if "admin" in after.scopes - before.scopes or is_above(after.expires_at, before.expires_at):
            self._check_lifetime(after)
        old, new = self._bars_of(before), self._bars_of(after)
        self._check_bars(after, [name for name in new if is_above(new[name], old[name])])
        is_moved = any(getattr(before.quota, name) != getattr(after.quota, name) for name in _PERIOD)
        if is_moved and before.account_id == self.key.account_id and not self.is_operator:
            raise errors.Forbidden(
                "The period of your own key's quota is set by operators or another administrator",
                code="own_quota_period",
                param="quota",
            )

    def _check_scopes(self, given: frozenset[str]) -> None:
        missing = sorted(given - self.key.scopes)
        if missing:
            raise errors.Forbidden(
                f"Your key lacks the scope '{missing[0]}', so you cannot give it; it has: "
                f"{', '.join(sorted(self.key.scopes))}",
                code="scope_not_held",
                param="scopes",
                data={"scope": missing[0]},
            )

    def _check_lifetime(self, record: KeyRecord) -> None:
        end = self.key.expires_at
        if "admin" in record.scopes and end is not None and is_above(record.expires_at, end):
            raise errors.Forbidden(
                f"Your key ends at {end:.0f}, so a key with the scope 'admin' has to end no later; set expires_at",
                code="outlives_its_maker",
                param="expires_at",
                data={"expires_at": end},
            )

    def _check_bars(self, record: KeyRecord, names: list[str]) -> None:
        if self.is_operator:
            return
        mine, wanted = _bars(self.subject.limits, self.subject.quota), self._bars_of(record)
        for name in names:
            bar, wish = mine[name], wanted[name]
            if is_above(wish, bar):
                more = "more" if wish is not None else "no bar at all"
                raise errors.Forbidden(
                    f"Your own key has {name} {bar}, so you cannot give {more}; "
                    f"set {name} to {bar} or less, or ask an operator",
                    code="limit_above_own",
                    param=name,
                    data={"limit": bar},
                )

    def _bars_of(self, record: KeyRecord) -> dict[str, int | None]:
        return _bars(record.limits.effective(self.defaults), record.quota.effective(self.defaults))


def is_above(wish: float | None, bar: float | None) -> bool:
    """Whether one bar lets more through than another; None = no bar."""
    return bar is not None and (wish is None or wish > bar)


def _bars(limits: Limits, quota: Quota) -> dict[str, int | None]:
    return {
        "limits.requests": limits.requests,
        "limits.tokens": limits.tokens,
        "limits.concurrency": limits.concurrency,
        "quota.tokens": quota.tokens,
        "quota.cost_micros": quota.cost_micros,
    }
