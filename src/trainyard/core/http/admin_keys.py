"""`/v1/admin/keys`: make, list, show, change, rotate and revoke keys."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from trainyard.core import errors
from trainyard.core.db import Database
from trainyard.core.http import auth, error_bodies, query
from trainyard.core.http.admin_bodies import KeyChange, KeyInfo, KeyList, KeyWish, NewKeyInfo, Rotation, Scope
from trainyard.core.keys import APIKeyManager, KeyRecord, NewKey, OwnLimits, OwnQuota, Which
from trainyard.core.keys.store.keys import Status
from trainyard.core.principal import Principal

Admin = Annotated[Principal, Depends(auth.principal("admin"))]
"""The principal of a key that may administer."""

Limit = Annotated[int, Query(ge=1, le=200, description="Most entries of this answer.")]
Offset = Annotated[int, Query(ge=0, le=1_000_000_000, description="Entries to leave out from the beginning.")]
KeyId = Annotated[str, Path(description="`key_…`; GET /v1/admin/keys lists them.")]

_STATE = error_bodies.responses("native", errors.Conflict)


@dataclass(frozen=True, slots=True)
class _Desk:
    """What the routes share."""

    keys: APIKeyManager
    database: Database

    def shown(self, record: KeyRecord) -> KeyInfo:
        """Show a key without its secret."""
        return KeyInfo.model_validate(self.keys.describe(record))

    def revealed(self, new: NewKey, response: Response) -> NewKeyInfo:
        """Show a new key, this once."""
        response.headers["Cache-Control"] = "no-store"
        return NewKeyInfo.model_validate({**self.keys.describe(new.record), "key": new.key})


def router(keys: APIKeyManager, database: Database) -> APIRouter:
    """Build the routes; an administrator sees keys of his own tenant, an operator those of all.

    Args:
        keys: What they look after.
        database: Whose threads do the work.
    """
    desk = _Desk(keys, database)
    routes = APIRouter(prefix="/v1/admin/keys", tags=["administration"], dependencies=[Depends(query.only_known)])
    _add_new(routes, desk)
    _add_shown(routes, desk)
    _add_changes(routes, desk)
    return routes


def _add_new(routes: APIRouter, desk: _Desk) -> None:
    keys = desk.keys

    @routes.post("", status_code=201, summary="Make a key")
    async def create_key(who: Admin, wish: KeyWish, response: Response) -> NewKeyInfo:
        """Make a key; the answer is the only one that has it in full."""
        by = keys.authority(who)
        new = await desk.database.call(
            keys.create,
            wish.user_id,
            wish.description,
            tenant=by.tenant if wish.tenant is None else wish.tenant,
            scopes=wish.scopes,
            expires_at=wish.expires_at,
            limits=OwnLimits(**wish.limits.model_dump()),
            quota=OwnQuota(**wish.quota.model_dump()),
            by=by,
        )
        return desk.revealed(new, response)

    @routes.post("/{key_id}/rotate", status_code=201, summary="Rotate a key", responses=_STATE)
    async def rotate_key(who: Admin, key_id: KeyId, response: Response, rotation: Rotation | None = None) -> NewKeyInfo:
        """Put a new key in the place of one; it keeps limits, quota and consumption. Both work for the overlap."""
        overlap_s = rotation.overlap_s if rotation is not None else 0.0
        new = await desk.database.call(keys.rotate_key, key_id, overlap_s, by=keys.authority(who))
        return desk.revealed(new, response)


def _add_shown(routes: APIRouter, desk: _Desk) -> None:
    keys = desk.keys

    @routes.get("", summary="List keys")
    async def list_keys(
        who: Admin,
        tenant: Annotated[str | None, Query(max_length=128, description="Only those of this tenant.")] = None,
        user_id: Annotated[str | None, Query(max_length=128, description="Only those of this owner.")] = None,
        scope: Annotated[Scope | None, Query(description="Only those that have this scope.")] = None,
        status: Annotated[Status, Query(description="`live` = active and expired ones, not revoked ones.")] = "live",
        limit: Limit = 50,
        offset: Offset = 0,
    ) -> KeyList:
        """List keys, oldest first, without anything that would help to guess one."""
        which = Which(tenant, user_id, scope, status)
        found, total = await desk.database.call(keys.page, which, limit, offset, by=keys.authority(who))
        return KeyList(results=[desk.shown(record) for record in found], total=total, limit=limit, offset=offset)

    @routes.get("/{key_id}", summary="Show a key")
    async def show_key(who: Admin, key_id: KeyId) -> KeyInfo:
        """Show one key, a revoked one too."""
        return desk.shown(await desk.database.call(keys.show, key_id, by=keys.authority(who)))


def _add_changes(routes: APIRouter, desk: _Desk) -> None:
    keys = desk.keys

    @routes.patch("/{key_id}", summary="Change a key", responses=_STATE)
    async def update_key(who: Admin, key_id: KeyId, change: KeyChange) -> KeyInfo:
        """Change what the body names; null takes a value back, what is left out stays."""
        return desk.shown(await desk.database.call(keys.update, key_id, change.wishes(), by=keys.authority(who)))

    @routes.delete("/{key_id}", summary="Revoke a key", responses=_STATE)
    async def revoke_key(who: Admin, key_id: KeyId) -> KeyInfo:
        """End a key for good; its record stays. A second time answers the same and changes nothing."""
        return desk.shown(await desk.database.call(keys.revoke, key_id, by=keys.authority(who)))
