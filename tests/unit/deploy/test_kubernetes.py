"""The files for Kubernetes: valid by the published schemas, no more than is needed, the chart as the plain ones."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.services import helm
from tests.services.kubernetes.admission import violations
from trainyard.core.settings import SandboxKubernetes, SandboxSettings, Settings
from trainyard.sandbox.backends.kubernetes.manifests import Manifests
from trainyard.sandbox.languages import compilers, scripts

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
CHART = DEPLOY / "helm" / "trainyard"
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VERSIONS = ("1.25", "1.30", "1.37")
"""Oldest that the chart names, one between, and the newest whose schemas are published in the package."""

RECIPES = [each for each in (*scripts.RECIPES, *compilers.RECIPES) if each.code != "ts"]
"""Those whose programs come from Debian; esbuild comes from npm."""

Object = dict[str, Any]


def plain() -> list[Object]:
    return [
        each for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")) for each in yaml.safe_load_all(path.read_text())
    ]


def key(found: Object) -> tuple[str, str, str]:
    return found["kind"], found["metadata"].get("namespace", ""), found["metadata"]["name"]


def made() -> dict[str, Object]:
    """What the server makes, with every option that has a place in a pod."""
    every = SandboxKubernetes(
        runtime_class="gvisor",
        user_namespaces=True,
        node_selector={"pool": "boxes"},
        tolerations=({"key": "boxes", "operator": "Exists", "effect": "NoSchedule"},),  # type: ignore[arg-type]
        pull_secrets=("registry",),
        pull_policy="Always",
        allow_sockets=True,
        cpu=0.5,
        cpu_request=2,
        port=9000,
        max_age_s=600,
    )
    least, most = Manifests(SandboxSettings()), Manifests(SandboxSettings(kubernetes=every))
    return {
        "pod": least.pod(least.images["lean"]),
        "job": least.job(least.images["science"], "server-1"),
        "pod-with-every-option": most.pod(most.images["lean"]),
        "job-with-every-option": most.job(most.images["science"], "server-1"),
    }


@pytest.fixture(scope="module")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return helm.built(tmp_path_factory.mktemp("helm"))


def rendered(renderer: Path, **changes: Any) -> list[Object]:
    values = copy.deepcopy(VALUES) | changes
    jsonschema.validate(values, SCHEMA)
    return helm.objects(helm.render(renderer, CHART, values, name="trainyard", namespace="trainyard"))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_plain_files_keep_the_published_schemas(version: str) -> None:
    for each in plain():
        kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", sorted(made()))
def test_what_the_server_makes_keeps_the_published_schemas(name: str, version: str) -> None:
    kubernetes_validate.validate(made()[name], version, strict=True)


@pytest.mark.parametrize("name", sorted(made()))
def test_what_the_server_makes_keeps_the_level_restricted(name: str) -> None:
    found = made()[name]
    pod = found["spec"]["template"]["spec"] if found["kind"] == "Job" else found["spec"]
    assert violations(pod) == []
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod["restartPolicy"] == "Never"
    assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    assert all(volume["emptyDir"]["medium"] == "Memory" for volume in pod["volumes"])


def test_the_server_keeps_the_level_restricted_too() -> None:
    [deployment] = [each for each in plain() if each["kind"] == "Deployment"]
    assert violations(deployment["spec"]["template"]["spec"]) == []


def test_every_option_of_a_pod_is_honoured() -> None:
    spec = made()["pod-with-every-option"]["spec"]
    container = spec["containers"][0]
    assert spec["runtimeClassName"] == "gvisor"
    assert spec["hostUsers"] is False
    assert spec["nodeSelector"] == {"pool": "boxes"}
    assert spec["tolerations"] == [{"key": "boxes", "operator": "Exists", "effect": "NoSchedule"}]
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["activeDeadlineSeconds"] == 600
    assert 10_000 <= spec["securityContext"]["runAsUser"] < 60_000
    assert container["imagePullPolicy"] == "Always"
    assert container["ports"][0]["containerPort"] == 9000
    assert container["resources"]["limits"]["cpu"] == "500m"
    assert container["resources"]["requests"]["cpu"] == "500m"  # a request above the limit is refused by the cluster
    assert container["resources"]["limits"]["memory"] == str((512 << 20) + (64 << 20))


def golden(found: Object) -> Object:
    """Without what is drawn anew for each."""
    text = json.dumps(found)
    for pattern, instead in (
        (r"trainyard-(lean|science)-[a-z0-9]{8}", r"trainyard-\1-NAME"),
        (r'("trainyard.dev/token": )"[^"]+"', r'\1"TOKEN"'),
        (r'("runAs(?:User|Group)": )\d+', r"\1 1"),
        (r'("trainyard.dev/generation": )"[^"]+"', r'\1"GENERATION"'),
    ):
        text = re.sub(pattern, instead, text)
    return json.loads(text)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", sorted(made()))
def test_what_the_server_makes_is_what_was_looked_at(name: str) -> None:
    """Golden files: a change of a pod is seen in review."""
    looked_at = yaml.safe_load((Path(__file__).parent / "golden" / f"{name}.yaml").read_text())
    assert golden(made()[name]) == looked_at


def test_the_role_has_what_is_used_and_no_more() -> None:
    [role] = [each for each in plain() if each["kind"] == "Role"]
    verbs = {(rule["resources"][0], verb) for rule in role["rules"] for verb in rule["verbs"]}
    assert verbs == {
        *(("pods", verb) for verb in ("create", "list", "watch", "patch", "delete")),
        *(("jobs", verb) for verb in ("create", "list", "delete")),
        *(("leases", verb) for verb in ("create", "list", "patch", "delete")),
        ("networkpolicies", "list"),
    }
    assert all(len(rule["resources"]) == 1 and "*" not in rule["verbs"] for rule in role["rules"])


def test_a_box_of_the_defaults_fits_into_the_bounds_of_the_namespace() -> None:
    [bounds] = [each["spec"]["limits"][0] for each in plain() if each["kind"] == "LimitRange"]
    limits = made()["pod"]["spec"]["containers"][0]["resources"]["limits"]
    assert int(limits["memory"]) == 576 << 20
    assert bounds["default"]["memory"] == "576Mi"
    assert (limits["cpu"], bounds["max"]["cpu"]) == ("1000m", "4")


def test_the_settings_of_the_files_are_settings() -> None:
    [config] = [each for each in plain() if each["kind"] == "ConfigMap"]
    for found in (yaml.safe_load(config["data"]["trainyard.yaml"]), VALUES["settings"]):
        assert Settings(**found).sandbox.backend == "kubernetes"


def test_the_chart_makes_what_the_plain_files_have(renderer: Path) -> None:
    namespace = ("Namespace", "", "trainyard")  # `helm install --create-namespace` makes that of the release
    expected = {key(each): each for each in plain() if key(each) != namespace}
    found = {key(each): each for each in rendered(renderer)}
    for each in (expected, found):
        config = each["ConfigMap", "trainyard", "trainyard"]["data"]
        config["trainyard.yaml"] = yaml.safe_load(config["trainyard.yaml"])
    assert found == expected


@pytest.mark.parametrize("version", VERSIONS)
def test_the_chart_keeps_the_published_schemas_with_everything_changed(renderer: Path, version: str) -> None:
    found = rendered(
        renderer,
        image={"reference": "registry.example/trainyard:1", "pullPolicy": "Always", "pullSecrets": ["registry"]},
        replicas=3,
        env=[{"name": "TRAINYARD_REDIS__URL", "valueFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}],
        persistence={"enabled": False},
        service={"type": "LoadBalancer", "port": 8080},
        nodeSelector={"pool": "servers"},
        tolerations=[{"key": "servers", "operator": "Exists"}],
        boxes={**VALUES["boxes"], "createNamespace": False, "readRuntimeClasses": False},
    )
    kinds = [each["kind"] for each in found]
    assert not {"PersistentVolumeClaim", "Namespace", "ClusterRole", "ClusterRoleBinding"} & set(kinds)
    for each in found:
        kubernetes_validate.validate(each, version, strict=True)
    [deployment] = [each for each in found if each["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    assert (deployment["spec"]["replicas"], pod["containers"][0]["image"]) == (3, "registry.example/trainyard:1")
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["nodeSelector"] == {"pool": "servers"}
    assert pod["containers"][0]["env"][0]["name"] == "TRAINYARD_REDIS__URL"


def test_the_port_of_the_policy_is_that_of_the_settings(renderer: Path) -> None:
    settings = copy.deepcopy(VALUES["settings"])
    settings["sandbox"]["kubernetes"] |= {"port": 9000, "namespace": "elsewhere"}
    found = rendered(renderer, settings=settings)
    [policy] = [each for each in found if each["kind"] == "NetworkPolicy"]
    assert policy["spec"]["ingress"][0]["ports"] == [{"protocol": "TCP", "port": 9000}]
    assert policy["metadata"]["namespace"] == "elsewhere"
    assert ("Role", "elsewhere", "trainyard") in map(key, found)


@pytest.mark.parametrize(
    "changes",
    [
        {"replicas": "three"},
        {"unknown": 1},
        {"settings": {"sandbox": {"backend": "local", "kubernetes": {"namespace": "x"}}}},
        {"settings": {"sandbox": {"backend": "kubernetes", "kubernetes": {"namespace": "No"}}}},
    ],
)
def test_values_that_cannot_be_meant_are_refused_by_the_charts_schema(changes: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(copy.deepcopy(VALUES) | changes, SCHEMA)


def test_the_image_for_languages_has_what_debian_has_of_them() -> None:
    text = (DEPLOY / "Dockerfile.runner").read_text()
    installed = re.search(r"--no-install-recommends \\\n(.*?) \\\n", text, re.DOTALL)
    assert installed is not None
    named = {word for recipe in RECIPES for word in re.findall(r"[a-z0-9+-]+", recipe.package) if word != "and"}
    assert named <= set(installed[1].split())


def test_the_entry_point_of_the_image_is_there() -> None:
    text = (DEPLOY / "Dockerfile.runner").read_text()
    [entry_point] = re.findall(r"^ENTRYPOINT (.+)$", text, re.MULTILINE)
    inside = json.loads(entry_point)[-1].removeprefix("/opt/trainyard/")
    assert (DEPLOY.parent / "src" / inside / "__main__.py").exists()
    for source in re.findall(r"^COPY (src/\S+)", text, re.MULTILINE):
        assert (DEPLOY.parent / source).exists()
