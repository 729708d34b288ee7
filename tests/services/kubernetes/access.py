"""Who may do what: a bearer token, and the rules of a Role as its manifest has them."""

from collections.abc import Iterable, Mapping
from typing import Any

from tests.services.kubernetes.answers import Refused
from tests.services.kubernetes.resources import Resource

Rule = Mapping[str, Any]


class Access:
    """One service account with its rules; the administrator's token may do everything."""

    def __init__(self, rules: Iterable[Rule], namespace: str, account: str = "trainyard") -> None:
        self.token, self.admin_token = "token-of-the-server", "token-of-the-administrator"
        self.rules = list(rules)
        self.user = f"system:serviceaccount:{namespace}:{account}"
        self._namespace = namespace

    def check(self, authorization: str | None, verb: str, resource: Resource, namespace: str, name: str) -> None:
        token = (authorization or "").removeprefix("Bearer ")
        if token == self.admin_token:
            return
        if token != self.token:
            raise Refused(401, "Unauthorized", "Unauthorized")
        in_role = namespace == self._namespace or not resource.is_namespaced
        if in_role and any(_allows(rule, verb, resource, name) for rule in self.rules):
            return
        where = f' in the namespace "{namespace}"' if resource.is_namespaced else " at the cluster scope"
        text = (
            f'{resource.qualified} is forbidden: User "{self.user}" cannot {verb} resource "{resource.plural}" '
            f'in API group "{resource.group}"{where}'
        )
        if name:
            text = text.replace(" is forbidden", f' "{name}" is forbidden', 1)
        raise Refused(403, "Forbidden", text, details={"name": name, "group": resource.group, "kind": resource.plural})


def _allows(rule: Rule, verb: str, resource: Resource, name: str) -> bool:
    names = rule.get("resourceNames")
    return (
        verb in rule["verbs"]
        and resource.group in rule["apiGroups"]
        and resource.plural in rule["resources"]
        and (not names or name in names)
    )
