"""Boxes in pods: warm ones, those of jobs, and what is left of them."""

from tests.contract.sandbox.backends.kubernetes.conftest import MakeBackend
from tests.services.kubernetes import Cluster
from trainyard.sandbox.types.orders import Order


async def test_a_box_of_a_job_runs_code(make_backend: MakeBackend, cluster: Cluster) -> None:
    backend = await make_backend()
    box = await backend.take("lean", "tenant")
    kept = await box.run(Order(code="import os\nx = 6 * 7\nprint(x, os.getpid() > 1)"))
    assert (kept.stdout, kept.stderr, kept.report.exit_code) == (b"42 True\n", b"", 0)
    await box.close()
