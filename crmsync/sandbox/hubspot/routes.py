"""Which operation of an emulated HubSpot account has which address."""

from __future__ import annotations

from collections.abc import Sequence

from crmsync.sandbox.emulator import Handler
from crmsync.sandbox.hubspot.api import ObjectsApi
from crmsync.sandbox.hubspot.associations import AssociationsApi
from crmsync.sandbox.hubspot.directory import Owners, Pipelines, Tokens
from crmsync.sandbox.hubspot.lists import Lists
from crmsync.sandbox.hubspot.objects import CONTACTS, TICKETS, ObjectType
from crmsync.sandbox.hubspot.properties import Properties

TOKENS = "/oauth/v3/token"

Routes = Sequence[tuple[str, str, Handler]]


def object_routes(of: ObjectType, api: ObjectsApi, properties: Properties) -> Routes:
    """The records of one kind and their properties."""
    path, defined = f"/crm/v3/objects/{of.path}", f"/crm/v3/properties/{of.path}"
    merging: Routes = [("POST", f"{path}/merge", api.merge)]
    erasing: Routes = [("POST", f"{path}/gdpr-delete", api.erase)]
    return [
        ("GET", path, api.list_page),
        ("POST", path, api.create),
        *(merging if of in (CONTACTS, TICKETS) else []),
        *(erasing if of is CONTACTS else []),
        ("POST", f"{path}/search", api.search),
        ("POST", f"{path}/batch/read", api.batch_read),
        ("POST", f"{path}/batch/create", api.batch_create),
        ("POST", f"{path}/batch/update", api.batch_update),
        ("POST", f"{path}/batch/upsert", api.batch_upsert),
        ("POST", f"{path}/batch/archive", api.batch_archive),
        ("GET", f"{path}/{{id}}", api.read),
        ("PATCH", f"{path}/{{id}}", api.update),
        ("DELETE", f"{path}/{{id}}", api.archive),
        ("GET", defined, properties.list_all),
        ("POST", defined, properties.create),
        ("GET", f"{defined}/groups", properties.list_groups),
        ("POST", f"{defined}/groups", properties.create_group),
        ("GET", f"{defined}/{{name}}", properties.read),
        ("DELETE", f"{defined}/{{name}}", properties.delete),
    ]


def account_routes(
    links: AssociationsApi, lists: Lists, owners: Owners, pipelines: Pipelines, tokens: Tokens
) -> Routes:
    """Everything else."""
    pair, path = "/crm/v4/associations/{from}/{to}/batch", "/crm/v3/lists"
    one = "/crm/v4/objects/{from}/{from_id}/associations"
    return [
        ("POST", f"{pair}/associate/default", links.make_many),
        ("POST", f"{pair}/read", links.read_many),
        ("POST", f"{pair}/archive", links.remove_many),
        ("PUT", f"{one}/default/{{to}}/{{to_id}}", links.make_one),
        ("GET", f"{one}/{{to}}", links.read_one),
        ("GET", "/crm/v3/pipelines/{object}", pipelines.list_all),
        ("GET", "/crm/v3/owners/", owners.list_page),
        ("POST", f"{path}/search", lists.search),
        ("GET", f"{path}/object-type-id/{{type}}/name/{{name}}", lists.read_by_name),
        ("GET", f"{path}/{{id}}", lists.read),
        ("GET", f"{path}/{{id}}/memberships", lists.members_page),
        ("PUT", f"{path}/{{id}}/memberships/add", lists.change),
        ("PUT", f"{path}/{{id}}/memberships/remove", lists.change),
        ("PUT", f"{path}/{{id}}/memberships/add-and-remove", lists.change),
        ("POST", TOKENS, tokens.exchange),
    ]
