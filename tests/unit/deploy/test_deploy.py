"""The files under `deploy/`: valid by their schemas, and about metrics and settings that exist."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import promql_parser
import pytest
import yaml

from trainyard import app
from trainyard.core import settings as settings_module
from trainyard.core.catalog import ModelRegistry
from trainyard.core.settings import Settings
from trainyard.engine.fake import FakeEngine, FakeEngines

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "trainyard.json").read_text())
ALERTS = yaml.safe_load((DEPLOY / "alerts.yml").read_text())
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def dashboard_expressions() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield target["expr"].replace("$__rate_interval", "1m")


def alert_expressions() -> Iterator[str]:
    for group in ALERTS["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]


EXPRESSIONS = [*dashboard_expressions(), *alert_expressions()]


@pytest.fixture(scope="module")
def metric_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Every series that a server declares, with the suffixes under which Prometheus stores it."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("deploy"))
    app.bootstrap(settings)
    server = app.build_server(settings, FakeEngines({"fake": FakeEngine("fake")}))
    text = server.parts.metrics.render()[0].decode()
    server.close()
    names = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
        names |= {f"{name}_bucket", f"{name}_count", f"{name}_sum"} if kind == "histogram" else {name}
    return names


def test_compose_keeps_the_published_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, str(DEPLOY / "compose.yaml")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_is_valid_and_asks_for_what_there_is(expression: str, metric_names: set[str]) -> None:
    promql_parser.parse(expression)
    asked = set(re.findall(r"\btrainyard_\w+", expression))
    assert asked <= metric_names


def test_no_two_panels_lie_on_each_other() -> None:
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)


def test_compose_sets_only_settings_that_exist() -> None:
    environment = {
        name: str(value)
        for name, value in COMPOSE["services"]["server"]["environment"].items()
        if name.startswith("TRAINYARD_")
    }
    assert environment
    settings_module.provenance(environ=environment)


def test_the_configuration_of_the_stack_can_be_used() -> None:
    environment = {
        name: re.sub(r"\$\{.*?\}", "x", str(value))
        for name, value in COMPOSE["services"]["server"]["environment"].items()
    }
    effective = settings_module.load(config_file=DEPLOY / "config" / "trainyard.yaml", environ=environment)
    assert effective.models_file is not None
    catalog = ModelRegistry.from_settings(
        effective.model_copy(update={"models_file": DEPLOY / "config" / effective.models_file})
    )
    assert catalog.list_models() == ["trainyard/pocket"]


def test_files_that_compose_mounts_are_there() -> None:
    mounts = [mount for service in COMPOSE["services"].values() for mount in service.get("volumes", ())]
    files = [mount.split(":")[0] for mount in mounts if mount.startswith(".")]
    assert files
    for file in files:
        assert (DEPLOY / file).exists(), file


def test_only_the_server_and_the_pages_for_people_are_published_and_only_on_loopback() -> None:
    published = {name: service["ports"] for name, service in COMPOSE["services"].items() if "ports" in service}
    assert set(published) == {"server", "prometheus", "grafana"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_the_image_copies_what_is_there_and_runs_as_nobody_special() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    copied = [
        word for line in lines if line.startswith("COPY ") and "--from" not in line for word in line.split()[1:-1]
    ]
    assert copied
    assert all((ROOT / file).exists() for file in copied)
    assert "USER trainyard" in lines


def test_the_stack_script_says_how_to_use_it() -> None:
    done = subprocess.run([str(ROOT / "scripts" / "stack.sh")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "usage: scripts/stack.sh up|down\n")


def test_without_a_container_engine_and_without_a_server_there_is_nothing_to_stop(tmp_path: Path) -> None:
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text("#!/bin/sh\nexit 1\n")
    docker.chmod(0o755)
    env = {"PATH": f"{docker.parent}:{os.environ['PATH']}", "TRAINYARD_DATA_DIR": str(tmp_path / "data")}
    done = subprocess.run([ROOT / "scripts" / "stack.sh", "down"], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"no server runs on {tmp_path / 'data'}\n")
