"""What `trainyard up` prints: a short block at the start and a line when something happens to a child."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import trainyard
from trainyard.cli import output
from trainyard.core.catalog import ModelEntry
from trainyard.core.processes import ChildState, ChildStatus


class Report:
    """Prints text, or JSON lines when asked; once nobody reads any more, it says nothing."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._last: dict[str, ChildState] = {}

    def started(
        self,
        url: str,
        data_dir: Path,
        first_key: str | None,
        models: Sequence[ModelEntry],
        certificate: Path | None = None,
    ) -> None:
        """Print the block; the key is printed here and never again, so this raises OSError when it cannot be."""
        if self._as_json:
            names = {entry.name: entry.load for entry in models}
            facts = {"url": url, "data_dir": str(data_dir), "admin_key": first_key, "models": names}
            facts["certificate"] = None if certificate is None else str(certificate)
            _write(json.dumps({"event": "starting", **facts}))
            return
        lines = [f"trainyard {trainyard.__version__}", f"  url        {url}", f"  data       {data_dir}"]
        if certificate is not None:
            lines.append(f"  trust      {certificate}  (self-signed; clients: TRAINYARD_CA)")
        if first_key is not None:
            lines.append(f"  admin key  {first_key}  (shown once; keep it)")
        lines += [f"  model      {entry.name}  ({entry.load})" for entry in models] or ["  model      none configured"]
        _write("\n".join(lines))

    def child(self, status: ChildStatus, log: Path) -> None:
        """Print a change that an operator should see."""
        previous = self._last.get(status.name)
        self._last[status.name] = status.state
        if self._as_json:
            self._json(event="child", name=status.name, state=status.state.value, pid=status.pid, reason=status.reason)
            return
        match status.state:
            case ChildState.READY:
                again = " again" if status.restarts else ""
                self._print(f"{status.name} is ready{again} (pid {status.pid})")
            case ChildState.WAITING:
                self._print(f"{status.name} ended ({status.reason}), starting it again; see {log}")
            case ChildState.FAILED:
                self._print(f"{status.name} has failed: {status.reason}; see {log}")
            case ChildState.STARTING if previous is None:
                self._print(f"{status.name} is starting")

    def run_file_not_written(self, error: OSError) -> None:
        """Print that `run.json` is behind; children are watched as before."""
        if self._as_json:
            self._json(event="run_file_not_written", reason=str(error))
        else:
            self._print(f"run.json cannot be written ({error}); what it says is out of date")

    def reloaded(self, models: Sequence[str], needs_restart: Sequence[str]) -> None:
        """Print that the configuration was read again, and what of it waits for a restart."""
        if self._as_json:
            self._json(event="reloaded", models=list(models), needs_restart=list(needs_restart))
            return
        self._print(f"configuration read again; models: {', '.join(models) or 'none'}")
        if needs_restart:
            self._print(f"these settings take effect at the next start: {', '.join(needs_restart)}")

    def reload_refused(self, reason: str) -> None:
        """Print that the configuration is at fault and nothing was changed."""
        if self._as_json:
            self._json(event="reload_refused", reason=reason)
        else:
            self._print(f"configuration not read again: {reason}; everything goes on as before")

    def draining(self) -> None:
        """Print that the server is on its way out."""
        if self._as_json:
            self._json(event="draining")
        else:
            self._print("draining: running requests end first; Ctrl-C again stops at once")

    def _json(self, **facts: object) -> None:
        self._print(json.dumps(facts))

    def _print(self, text: str) -> None:
        try:
            _write(text)
        except OSError:  # the reader is gone, or the disk behind it is full
            output.silence()


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
