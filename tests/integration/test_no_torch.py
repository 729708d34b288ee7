"""The HTTP process holds no tensor library: it stays small and starts fast."""

import json
from pathlib import Path

import pytest

from trainyard.testing.plugin import LiveServer


def test_the_http_process_has_not_loaded_torch_after_training_and_sampling(live_server: LiveServer) -> None:
    if live_server.data_dir is None:
        pytest.skip("the server is not ours (API_BASE): its processes cannot be looked into")
    with live_server.client() as client:
        run = client.create_run(base_model="trainyard/pocket", lora_r=2)
        run.forward_backward([{"text": "The green engine waits."}])
        run.optim_step()
        assert run.sample(["The"], max_tokens=2).outputs
        run.complete()
    children = json.loads((live_server.data_dir / "run.json").read_text())["children"]
    loaded = {child["name"]: Path(f"/proc/{child['pid']}/maps").read_text() for child in children}
    assert "libtorch" in loaded["engine:trainyard/pocket"]
    assert "libtorch" not in loaded["http"]
