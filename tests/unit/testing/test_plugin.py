"""The fixtures of the plugin, seen by a test that uses them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from trainyard.core import errors
from trainyard.core.catalog import ModelRegistry
from trainyard.core.keys import APIKeyManager
from trainyard.engine import calls
from trainyard.engine.tokenizer import Tokenizer
from trainyard.testing import tiny_model
from trainyard.testing.plugin import OTHER_TEST_MODEL, TEST_MODEL, LiveServer
from trainyard.testing.spies import VerbSpy
from trainyard.training.store import RunRegistry


@pytest.fixture
def headers(test_api_key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {test_api_key}"}


def test_the_root_names_the_service_without_a_key(test_client: TestClient) -> None:
    answer = test_client.get("/")
    assert answer.status_code == 200
    assert answer.json()["status"] == "running"


def test_the_managers_work_on_the_temporary_files(
    api_key_manager: APIKeyManager,
    run_registry: RunRegistry,
    model_registry: ModelRegistry,
    temp_api_keys_file: Path,
    temp_registry_file: Path,
    test_user_id: str,
) -> None:
    key = api_key_manager.generate_key(test_user_id)
    found = api_key_manager.validate_key(key)
    assert found is not None
    assert found.user == test_user_id
    run_id = run_registry.create_run(test_user_id, TEST_MODEL, {})
    assert [run.run_id for run in run_registry.list_runs(test_user_id)] == [run_id]
    assert model_registry.list_models() == [TEST_MODEL, OTHER_TEST_MODEL]
    assert temp_api_keys_file == temp_registry_file
    assert temp_registry_file.stat().st_size > 0


def test_the_spies_see_what_a_training_loop_asks_of_the_engine(
    test_client: TestClient,
    headers: dict[str, str],
    sample_run_config: dict[str, Any],
    sample_batch: list[dict[str, Any]],
    sample_prompts: list[str],
    fake_engine_create_run: VerbSpy[calls.OpenRun],
    fake_engine_forward_backward: VerbSpy[calls.ForwardBackward],
    fake_engine_optim_step: VerbSpy[calls.OptimStep],
    fake_engine_sample: VerbSpy[calls.Generate],
    fake_engine_save_state: VerbSpy[calls.Save],
) -> None:
    run_id = test_client.post("/runs", json=sample_run_config, headers=headers).json()["run_id"]
    test_client.post(f"/runs/{run_id}/forward_backward", json={"batch_data": sample_batch}, headers=headers)
    test_client.post(f"/runs/{run_id}/optim_step", json={"learning_rate": 0.25}, headers=headers)
    test_client.post(f"/runs/{run_id}/sample", json={"prompts": sample_prompts, "max_tokens": 1}, headers=headers)
    test_client.post(f"/runs/{run_id}/save_state", headers=headers)
    assert [call.spec.lora_r for call in fake_engine_create_run.calls] == [sample_run_config["lora_r"]]
    assert [len(call.data) for call in fake_engine_forward_backward.calls] == [len(sample_batch)]
    assert [call.learning_rate for call in fake_engine_optim_step.calls] == [0.25]
    assert len(fake_engine_sample.calls) == len(sample_prompts)
    assert [call.mode for call in fake_engine_save_state.calls] == ["adapter"]


def test_a_spy_can_make_the_engine_fail(
    test_client: TestClient,
    headers: dict[str, str],
    sample_run_config: dict[str, Any],
    sample_messages_batch: list[dict[str, Any]],
    fake_engine_forward_backward: VerbSpy[calls.ForwardBackward],
) -> None:
    run_id = test_client.post("/runs", json=sample_run_config, headers=headers).json()["run_id"]
    fake_engine_forward_backward.fail_next(errors.Unavailable("away", code="engine_restarting", retry_after_s=1))
    body = {"batch_data": sample_messages_batch}
    refused = test_client.post(f"/runs/{run_id}/forward_backward", json=body, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (503, "engine_restarting")
    assert test_client.post(f"/runs/{run_id}/forward_backward", json=body, headers=headers).status_code == 200


@pytest.mark.parametrize("text", ["plain", "Grüße aus 東京 🎉\n", ""])
def test_the_tiny_tokenizer_gives_back_every_text(tmp_path: Path, text: str) -> None:
    tokenizer = Tokenizer.from_directory(tiny_model.write(tmp_path))
    assert tokenizer.vocab_size == tiny_model.VOCAB_SIZE
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode(text)) == len(text.encode())


async def test_a_live_server_gives_clients_of_its_own() -> None:
    server = LiveServer("http://127.0.0.1:1", "sk-x")
    with server.client() as client:
        assert (client.base_url, client.api_key) == (server.url, server.key)
    async with server.async_client() as client:
        assert (client.base_url, client.api_key) == (server.url, server.key)


def test_importing_the_plugin_imports_nothing_of_the_server() -> None:
    program = (
        "import json, sys, trainyard.testing.plugin;"
        "print(json.dumps([m for m in sys.modules if m.startswith('trainyard') or m in ('torch', 'httpx')]))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == ["trainyard", "trainyard.testing", "trainyard.testing.plugin"]
