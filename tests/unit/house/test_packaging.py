"""The files that say what is installed agree with each other."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONSTRAINTS = (ROOT / "constraints.txt").read_text().splitlines()


def name_of(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def test_requirements_txt_is_the_package_and_its_dev_group() -> None:
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines == ["-c constraints.txt", "-e .", *PYPROJECT["dependency-groups"]["dev"]]


@pytest.mark.parametrize("group", ["dependencies", "dev", "postgres"])
def test_every_requirement_has_a_version_that_was_tested(group: str) -> None:
    project = PYPROJECT["project"]
    groups = {
        "dependencies": project["dependencies"],
        "dev": PYPROJECT["dependency-groups"]["dev"],
        "postgres": project["optional-dependencies"]["postgres"],
    }
    tested = {name_of(line) for line in CONSTRAINTS}
    assert {name_of(requirement) for requirement in groups[group]} <= tested


def test_the_constraints_name_versions_and_no_addresses() -> None:
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", line) for line in CONSTRAINTS)


def test_the_just_file_calls_make_alone() -> None:
    recipes = [line.strip() for line in (ROOT / "justfile").read_text().splitlines() if line.startswith("    ")]
    rules = re.findall(r"^([a-z -]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    targets = {target for rule in rules for target in rule.split()}
    assert recipes
    assert {recipe.removeprefix("make ") for recipe in recipes} <= targets
