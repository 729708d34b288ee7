"""The backend against a real cluster, when a kubeconfig is given; the runner image has to be there.

    TRAINYARD_TEST_KUBECONFIG   path of the kubeconfig; its user may make a namespace
    TRAINYARD_TEST_IMAGE        reference of the runner image, `trainyard-runner:lean` when left out

The pods' addresses have to be reachable from here.
"""

import asyncio
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from trainyard.core.settings import SandboxKubernetes, SandboxSettings
from trainyard.sandbox.backends.kubernetes import KubernetesBackend
from trainyard.sandbox.types.orders import Order

_KUBECONFIG = os.environ.get("TRAINYARD_TEST_KUBECONFIG")
_DEPLOY = Path(__file__).resolve().parents[3] / "deploy" / "kubernetes"
_NAMESPACE = "trainyard-sandbox"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(_KUBECONFIG is None, reason="TRAINYARD_TEST_KUBECONFIG names no cluster"),
    pytest.mark.timeout(600),
]


def _kubectl(*arguments: str) -> str:
    command = ["kubectl", "--kubeconfig", str(_KUBECONFIG), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """The namespaces, the bounds and the policy of deploy/kubernetes, until the tests are over."""
    files = [str(_DEPLOY / name) for name in ("00-namespaces.yaml", "20-bounds.yaml", "30-network.yaml")]
    for file in files:
        _kubectl("apply", "-f", file)
    yield _NAMESPACE
    _kubectl("delete", "-f", files[0], "--wait=false")


@pytest.fixture
async def backend(namespace: str) -> AsyncIterator[KubernetesBackend]:
    kubernetes = SandboxKubernetes(
        namespace=namespace,
        installation="test",
        kubeconfig=Path(str(_KUBECONFIG)),
        image=os.environ.get("TRAINYARD_TEST_IMAGE", "trainyard-runner:lean"),
        ready_s=300,
        lease_s=10,
    )
    made = KubernetesBackend(SandboxSettings(backend="kubernetes", warm=2, warm_science=0, kubernetes=kubernetes))
    await made.start()
    yield made
    await made.aclose()


async def _until_warm(backend: KubernetesBackend) -> None:
    async with asyncio.timeout(300):
        while sum(not each.is_taken for each in backend.running()) < 2:  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(0.5)


async def test_code_runs_keeps_its_variables_and_leaves_no_pod(backend: KubernetesBackend) -> None:
    await _until_warm(backend)
    box = await backend.take("lean", "tenant")
    await box.run(Order(code="x = 6 * 7"))
    assert (await box.run(Order(code="print(x)"))).stdout == b"42\n"
    await box.close()
    deadline = time.monotonic() + 60
    while box.id in _kubectl("-n", _NAMESPACE, "get", "pods", "-o", "name"):
        assert time.monotonic() < deadline
        await asyncio.sleep(1)


async def test_a_flavour_that_is_not_kept_warm_is_a_job(backend: KubernetesBackend) -> None:
    before = _kubectl("-n", _NAMESPACE, "get", "jobs", "-o", "name").split()
    boxes = [await backend.take("lean", "tenant") for _ in range(4)]  # two warm ones, then jobs
    assert len(_kubectl("-n", _NAMESPACE, "get", "jobs", "-o", "name").split()) > len(before)
    for box in boxes:
        assert (await box.run(Order(code="print(1)"))).stdout == b"1\n"
        await box.close()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; print(os.getuid() == 0)", b"False"),
        ("import socket; socket.socket()", b"Address family not supported"),
        ("open('/etc/new', 'w')", b"Read-only file system"),
        ("import os; print(os.path.exists('/var/run/secrets/kubernetes.io'))", b"False"),
        ("x = bytearray(4 << 30)", b""),
    ],
)
async def test_code_is_locked_in(backend: KubernetesBackend, code: str, said: bytes) -> None:
    box = await backend.take("lean", "tenant")
    kept = await box.run(Order(code=code))
    assert said in kept.stdout + kept.stderr
    assert not (code.startswith("x = ") and kept.report.is_success)
    await box.close()


def test_the_policy_is_kept_by_the_network_plugin(namespace: str) -> None:
    """A plain pod in the namespace of the boxes, without the runner's own lock, does not reach the API server."""
    look = "import socket,os; socket.create_connection((os.environ['KUBERNETES_SERVICE_HOST'], 443), 5)"
    container = {
        "name": "probe",
        "image": os.environ.get("TRAINYARD_TEST_IMAGE", "trainyard-runner:lean"),
        "command": ["python3", "-c", look],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "runAsUser": 70000, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"automountServiceAccountToken": False, "securityContext": security, "containers": [container]}
    overrides = json.dumps({"spec": spec})
    _kubectl("-n", namespace, "run", "probe", "--image=probe", "--restart=Never", f"--overrides={overrides}")
    try:
        deadline = time.monotonic() + 120
        path = "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}"
        while not (code := _kubectl("-n", namespace, "get", "pod", "probe", "-o", path)):
            assert time.monotonic() < deadline
            time.sleep(1)
        assert code == "1", "0: the API server is reached; anything else: the probe did not run"
    finally:
        _kubectl("-n", namespace, "delete", "pod", "probe", "--wait=false")
