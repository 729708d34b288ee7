"""A self-hosted platform for language models: train LoRA adapters, serve them, in one package.

Importing this package imports nothing else; `Client` and `AsyncClient` are loaded at first use (PEP 562).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainyard.sdk import AsyncClient, Client

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> object:
    if name in ("AsyncClient", "Client"):
        from trainyard import sdk

        return getattr(sdk, name)
    raise AttributeError(f"module 'trainyard' has no attribute '{name}'")
