"""Who calls a training route."""

from typing import Annotated

from fastapi import Depends

from trainyard.core.http import auth
from trainyard.core.principal import Principal

Trainer = Annotated[Principal, Depends(auth.principal("train"))]
"""The principal of a key that may train."""
