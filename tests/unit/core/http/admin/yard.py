"""The routes of administration over a real key store."""

from dataclasses import dataclass
from typing import Any

from starlette.testclient import TestClient

from trainyard.core.clock import FakeClock
from trainyard.core.keys import APIKeyManager, NewKey


@dataclass(frozen=True)
class Office:
    """A server with the routes of administration, and keys for those who call it.

    Attributes:
        root: An operator with every scope.
        boss: Administrates the tenant `lab`; may also generate.
        ada: Generates in `lab`.
    """

    http: TestClient
    keys: APIKeyManager
    clock: FakeClock
    root: NewKey
    boss: NewKey
    ada: NewKey

    def ask(self, who: str | NewKey, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """Send a request with a key; `who` names one of the attributes or is a key."""
        key = getattr(self, who) if isinstance(who, str) else who
        headers = {"Authorization": f"Bearer {key.key}"}
        return self.http.request(method, f"/v1/admin{path}", json=body, headers=headers, **options)

    def make(self, **wishes: Any) -> dict[str, Any]:
        """Have the operator make a key; the answer."""
        body = {"user_id": "bob", "scopes": ["generate"], "tenant": "lab", **wishes}
        answer = self.ask("root", "POST", "/keys", body)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def path(self, template: str) -> str:
        """Put the ids of the three keys into a path."""
        return template.format(root=self.root.record.id, boss=self.boss.record.id, ada=self.ada.record.id)
