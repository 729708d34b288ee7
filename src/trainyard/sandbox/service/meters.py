"""What the sandbox counts for Prometheus."""

from trainyard.core.telemetry import Metrics
from trainyard.sandbox.types.orders import Report

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class SandboxMetrics:
    """The metrics of one service; languages are those that run here, so that labels stay few.

    Attributes:
        live: Sessions with a box.
        warm: Boxes that are ready and belong to nobody.
        checkpoints: By what became of them: `written`, `unchanged`, `failed`.
        restores: By what became of them: `whole`, `partial`, `failed`.
        evictions: Sessions whose box was given up, by the reason: `idle`, `memory`, `boxes`, `wanted`, `killed`,
            `shutdown`.
        bytes: Of contents, by direction: `uploaded`, `produced`, `downloaded`, `checkpointed`.
        collected: Contents that were removed because nothing names them.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._executions = metrics.counter(
            "trainyard_sandbox_executions", "Runs by language and how they ended", ("language", "outcome")
        )
        self._execution_s = metrics.histogram(
            "trainyard_sandbox_execution_seconds", "Wall clock of runs in their box", ("language",), _BUCKETS_S
        )
        self._cpu_s = metrics.counter("trainyard_sandbox_cpu_seconds", "CPU time of runs", ("language",))
        self.live = metrics.gauge("trainyard_sandbox_live_sessions", "Sessions with a live box").of()
        self.warm = metrics.gauge("trainyard_sandbox_warm_boxes", "Boxes that are ready and belong to nobody").of()
        self.checkpoints = metrics.counter("trainyard_sandbox_checkpoints", "Checkpoints by outcome", ("outcome",))
        self.restores = metrics.counter("trainyard_sandbox_restores", "States put into new boxes", ("outcome",))
        self.evictions = metrics.counter("trainyard_sandbox_evictions", "Live sessions put away", ("reason",))
        self.bytes = metrics.counter("trainyard_sandbox_bytes", "Bytes of files and states", ("direction",))
        self.collected = metrics.counter("trainyard_sandbox_collected_contents", "Unnamed contents removed").of()

    def end(self, language: str, report: Report) -> None:
        """Count a run."""
        outcome = report.reason or ("success" if report.exit_code == 0 else "error")
        self._executions.of(language, outcome).inc()
        self._execution_s.of(language).observe(report.wall_s)
        self._cpu_s.of(language).inc(report.cpu_s)
