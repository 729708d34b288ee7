"""`docs/testing.md` says where everything of the guides of seeds 1, 2 and 5 is; these tests hold it to that."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "testing.md"

FILES = """\
conftest.py test_auth.py test_models.py test_registry.py test_schemas.py test_api.py test_client.py
test_integration.py"""
FIXTURES = """\
temp_api_keys_file temp_registry_file temp_models_config api_key_manager run_registry model_registry
mock_modal_create_run mock_modal_forward_backward mock_modal_optim_step mock_modal_sample mock_modal_save_state
test_user_id test_api_key sample_batch sample_messages_batch sample_prompts sample_run_config test_client"""
TESTS = """\
test_generate_key_format test_validate_correct_key test_load_models_from_config test_create_run_basic
test_run_config_defaults test_root_endpoint test_create_run_success test_list_models test_complete_training_flow"""
SCENARIOS = [
    "Complete training loop", "Gradient accumulation across multiple batches", "Multi-step training with metrics",
    "Both adapter and merged model saving", "Multiple runs per user with isolation", "Chat template format",
    "Custom LoRA configurations", "Various sampling parameters", "Run not found (404)", "Unauthorized access (403)",
    "Invalid API key (401)", "Unsupported model (400)", "Missing gradients", "Invalid batch data", "Malformed requests",
]  # fmt: skip
COMMANDS = [
    "pip install -r requirements.txt", "pytest tests/", "pytest tests/test_auth.py -v", "pytest tests/test_api.py -v",
    "pytest tests/test_integration.py -v", "--cov=api --cov=client", "--cov-report=html", "-n auto",
    "TestAPIKeyGeneration::test_generate_key_format", ".github/workflows/test.yml",
]  # fmt: skip
OF_THE_TRAINING_GUIDE = [*FILES.split(), *FIXTURES.split(), *TESTS.split(), *SCENARIOS, *COMMANDS]

SERVER_FILES = """\
tests/conftest.py test_auth.py test_auth_rate_quota.py test_generate.py test_health.py test_health_metrics.py
test_integrate_generate.py test_limits.py"""
SERVER_FIXTURES = ["an app test client", "temporary DB with migrations applied", "seeded API keys", "mocked LLM calls"]
SERVER_COMMANDS = [
    "uv sync", "uv run pytest -q", "uv run pytest tests/test_generate.py", "uv run pytest -vv", "make up",
    "tests/test_generate.py::test_basic_generation", "API_BASE=http://localhost:8000 uv run pytest -q",
]  # fmt: skip
SERVER_GUARANTEES = [
    "`missing_api_key`", "`invalid_api_key`", "`rate_limit_exceeded`", "Windows reset", "Generations consume quota",
    "`quota_exhausted`", "Monthly reset timestamps", "hit the completion cache",
    "Different parameters bypass the cache", "`cached=true`", "`/healthz` returns `200`", "`/readyz` verifies",
    "Core HTTP counters", "LLM-specific metrics", "`{model, output, cached}`", "Parameters such as", "Error paths map",
]  # fmt: skip
SERVER_PLANS = [
    "Deterministic", "Fast", "Subsystem-oriented", "Production-flavored", "scenario-level tests", "multimodel routing",
    "baseline performance", "CI: `uv sync`", "Python versions", "local vs container mode", "Redis enabled vs disabled",
    "When to add new tests",
]  # fmt: skip
OF_THE_SERVER_GUIDE = [
    *SERVER_FILES.split(), *SERVER_FIXTURES, *SERVER_COMMANDS, *SERVER_GUARANTEES, *SERVER_PLANS
]  # fmt: skip

INTERPRETER_FILES = """\
tests/conftest.py tests/unit/ tests/integration/ tests/snapshots/ test_id_generator.py test_minio_config.py
test_output_processor.py test_session_service.py test_state_service.py test_execution_service.py
test_api_contracts.py test_auth_integration.py test_container_behavior.py test_exec_api.py test_file_api.py
test_file_handling.py test_librechat_compat.py test_security_integration.py test_session_behavior.py
test_state_api.py test_session_state.py"""
INTERPRETER_NAMES = """\
api_client sample_python_code test_execute_python test_state_persistence test_execution_with_mocked_kubernetes
test_execute_python_code pytest.mark.asyncio src/api/ src/services/ src/middleware/ Overall CONFIGURATION.md
ARCHITECTURE.md PERFORMANCE.md"""
INTERPRETER_COMMANDS = [
    "just install", "uv sync", "just docker-up", "docker-compose up -d", "`just test`", "uv run pytest tests/",
    "uv run pytest -v tests/", "just test-cov", "--cov=src tests/", "--cov-report=html", "htmlcov/index.html",
    "just test-unit", "uv run pytest tests/unit/`", "uv run pytest tests/unit/test_execution_service.py",
    "just test-integration", "uv run pytest tests/integration/`", "core integration tests", "`-m slow`",
    '`-m "not slow"`', '`-k "python"`', "scripts/perf_test.py", "--junitxml=test-results.xml", "--cov-report=xml",
    "GitHub Actions Example",
]  # fmt: skip
INTERPRETER_SCENARIOS = [
    "ExecRequest validation", "ExecResponse structure", "Error response formats", "HTTP status codes",
    "File upload format (multipart/form-data)", "Session ID handling", "File reference format",
    "Response structure matching LibreChat expectations", "Pod creation and cleanup", "Resource limit enforcement",
    "Timeout handling", "Output capture", "Variable persistence across executions", "Function persistence",
    "NumPy/Pandas object persistence", "State size limits", "Session isolation", "File upload", "File download",
    "File listing", "File deletion", "File naming edge cases", "Simple execution latency",
    "Complex execution latency", "Concurrent request handling", "State persistence overhead",
    "File operation latency", "Sample Output", "check infrastructure", "check API health", "check logs",
    "Async tests hang", "Unclosed async resources", "Race conditions in pod cleanup", "Proper test isolation",
    "Explicit waits for async operations",
]  # fmt: skip
INTERPRETER_SUBJECTS = [
    "snapshots of the wire answers per client generation", "JUnit output", "coverage per component", "contracts",
    "auth", "lifecycle and limits", "exec", "files", "file handling", "LibreChat", "security", "session behaviour",
    "state", "live URL",
]  # fmt: skip
OF_THE_INTERPRETER_GUIDE = [
    *INTERPRETER_FILES.split(), *INTERPRETER_NAMES.split(), *INTERPRETER_COMMANDS, *INTERPRETER_SCENARIOS
]  # fmt: skip

TRAINING, SERVER, INTERPRETER = "training", "server", "code interpreter"
NAMED = [
    *((TRAINING, name) for name in OF_THE_TRAINING_GUIDE),
    *((SERVER, name) for name in OF_THE_SERVER_GUIDE),
    *((INTERPRETER, name) for name in OF_THE_INTERPRETER_GUIDE),
]


@dataclass(frozen=True)
class Row:
    kind: str
    theirs: str
    ours: str

    @property
    def targets(self) -> list[str]:
        """What the row points at: paths, `path::name`, `make target`; commands and options in it are left out."""
        quoted = re.findall(r"`([^`]+)`", self.ours)
        return [text for text in quoted if text.startswith("make ") or re.match(r"[\w./]+(::\w+)?$", text)]


def rows(guide: str) -> list[Row]:
    section = (
        PAGE.read_text(encoding="utf-8").partition(f"## Where the {guide} guide's tests are")[2].partition("\n## ")[0]
    )
    table = section.partition("| kind |")[2]
    cells = [line.strip("|").split(" | ") for line in table.splitlines()[2:] if line.startswith("|")]
    return [Row(*(cell.strip() for cell in row)) for row in cells]


def is_there(target: str) -> bool:
    if target.startswith("make "):
        rules = re.findall(r"^([\w -]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
        return target.removeprefix("make ") in " ".join(rules).split()
    name, _, member = target.partition("::")
    path = ROOT / name
    return path.exists() and (not member or member in _definitions(path))


def _definitions(path: Path) -> set[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)}


@pytest.mark.parametrize(
    "row", [*rows(TRAINING), *rows(SERVER), *rows(INTERPRETER)], ids=lambda row: f"{row.kind} {row.theirs}"
)
def test_every_place_that_the_page_names_exists(row: Row) -> None:
    assert row.targets
    assert [target for target in row.targets if not is_there(target)] == []


@pytest.mark.parametrize(("guide", "name"), NAMED)
def test_everything_that_a_guide_names_has_a_row(guide: str, name: str) -> None:
    assert any(name in row.theirs for row in rows(guide))


@pytest.mark.parametrize("subject", INTERPRETER_SUBJECTS)
def test_every_subject_of_the_code_interpreter_has_a_row(subject: str) -> None:
    assert any(subject in row.theirs for row in rows(INTERPRETER) if row.kind == "subject")


@pytest.mark.parametrize(
    "target",
    ["make nothing", "tests/no_such_file.py", "tests/conftest.py::no_such_fixture", "tests/conftest.py::_HERE"],
)
def test_a_missing_target_is_noticed(target: str) -> None:
    assert not is_there(target)
