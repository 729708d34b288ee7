"""LibreChat's published client runs code: what its tool tells the model, generation by generation."""

import pytest

from tests.integration.sandbox.librechat import generations
from tests.integration.sandbox.librechat.conftest import Begin
from tests.integration.sandbox.librechat.generations import Generation

pytestmark = pytest.mark.timeout(600)  # the first use of a version installs it


def test_output_reaches_the_model(begin: Begin) -> None:
    said = begin().run("print('grüße')\nimport sys\nprint('beside', file=sys.stderr)")
    assert (said.status, said.content) == ("success", "stdout:\ngrüße\n\nstderr:\nbeside")
