from typing import Any

import httpx
import pytest

from trainyard.cli import models
from trainyard.core import errors
from trainyard.sdk import Client

SERVED = [{"id": "a/first", "default": False}, {"id": "a/default", "default": True}]


def client_of(served: list[dict[str, Any]], trainable: list[str]) -> Client:
    bodies = {"/v1/models": {"data": served}, "/models": {"models": trainable}}
    return Client(
        "sk-x",
        "http://yard.test",
        transport=httpx.MockTransport(lambda r: httpx.Response(200, json=bodies[r.url.path])),
    )


def test_the_default_model_is_called_and_the_first_one_is_trained() -> None:
    client = client_of(SERVED, ["a/first", "a/default"])
    assert (models.to_call(client), models.to_train(client)) == ("a/default", "a/first")


@pytest.mark.parametrize("choose", [models.to_call, models.to_train])
def test_a_server_without_models_is_said_to_be_one(choose: Any) -> None:
    with pytest.raises(errors.UnknownModel, match="has no models"):
        choose(client_of([], []))
