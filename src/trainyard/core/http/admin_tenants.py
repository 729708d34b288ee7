"""`/v1/admin/tenants`: what all keys of a tenant may do together."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from trainyard.core.db import Database
from trainyard.core.http import query
from trainyard.core.http.admin_bodies import TenantBars, TenantChange, TenantInfo, TenantList
from trainyard.core.http.admin_keys import Admin, Limit, Offset
from trainyard.core.keys import APIKeyManager, TenantRecord

Name = Annotated[str, Path(description="Name of a tenant, as keys have it.")]


def router(keys: APIKeyManager, database: Database) -> APIRouter:
    """Build the routes; operators see and set all tenants, other administrators see their own.

    Args:
        keys: Whose tenants they look after.
        database: Whose threads do the work.
    """
    tenants = keys.tenants
    routes = APIRouter(prefix="/v1/admin/tenants", tags=["administration"], dependencies=[Depends(query.only_known)])

    def shown(record: TenantRecord) -> TenantInfo:
        return TenantInfo.model_validate(keys.describe_tenant(record))

    @routes.get("", summary="List tenants")
    async def list_tenants(who: Admin, limit: Limit = 50, offset: Offset = 0) -> TenantList:
        """List the tenants that have keys, limits or a quota, by name."""
        found, total = await database.call(tenants.page, limit, offset, by=keys.authority(who))
        return TenantList(results=[shown(record) for record in found], total=total, limit=limit, offset=offset)

    @routes.get("/{name}", summary="Show a tenant")
    async def show_tenant(who: Admin, name: Name) -> TenantInfo:
        """Show limits and quota of a tenant."""
        return shown(await database.call(tenants.show, name, by=keys.authority(who)))

    @routes.put("/{name}", summary="Set a tenant's limits anew")
    async def set_tenant(who: Admin, name: Name, bars: TenantBars) -> TenantInfo:
        """Set limits and quota anew; what the body leaves out is no bar. The tenant need not have keys yet."""
        limits, quota = bars.own()
        return shown(await database.call(tenants.set, name, limits, quota, by=keys.authority(who)))

    @routes.patch("/{name}", summary="Change a tenant's limits")
    async def update_tenant(who: Admin, name: Name, change: TenantChange) -> TenantInfo:
        """Change what the body names; null takes a value back, what is left out stays."""
        wishes = {"limits": {}, "quota": {}, **change.patch()}
        return shown(await database.call(tenants.update, name, **wishes, by=keys.authority(who)))

    @routes.delete("/{name}", summary="Take a tenant's limits away")
    async def clear_tenant(who: Admin, name: Name) -> TenantInfo:
        """Take every bar of a tenant away; its keys stay. A second time answers the same."""
        return shown(await database.call(tenants.clear, name, by=keys.authority(who)))

    return routes
