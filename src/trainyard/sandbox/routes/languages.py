"""GET /languages: what runs here."""

from fastapi import APIRouter

from trainyard.sandbox.routes.access import Runner
from trainyard.sandbox.service import SandboxService
from trainyard.sandbox.types.wire_sessions import LanguageAnswer, LanguageList


def add(routes: APIRouter, service: SandboxService) -> None:
    """Add the route."""

    @routes.get("/languages", summary="List languages")
    async def list_languages(who: Runner) -> LanguageList:
        """List the languages for which there is a program on this machine, each with its version."""
        return LanguageList(
            languages=[
                LanguageAnswer(code=one.code, name=one.name, aliases=list(one.aliases), version=one.version)
                for one in service.languages()
            ]
        )
