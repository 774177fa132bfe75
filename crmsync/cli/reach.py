"""What commands share: which tenant is meant, and how to ask a running daemon."""

from __future__ import annotations

from typing import Annotated, Any

import httpx
import typer

from crmsync import bootstrap
from crmsync.config import Configuration, TenantConfig
from crmsync.errors import CrmsyncError

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
TenantOption = Annotated[str | None, typer.Option(help="The tenant; needed where there are several.")]
TenantArgument = Annotated[
    str | None, typer.Argument(metavar="TENANT", help="The tenant; needed where there are several.")
]


def choose_tenant(configuration: Configuration, named: str | None) -> TenantConfig:
    """The tenant that was named, or the only one."""
    tenants = {tenant.id: tenant for tenant in configuration.tenants}
    if named is None and len(tenants) == 1:
        return next(iter(tenants.values()))
    if named is None:
        raise typer.BadParameter(f"choose one of {', '.join(sorted(tenants))}", param_hint="--tenant")
    if named not in tenants:
        raise typer.BadParameter(
            f"“{named}” is not configured; there are {', '.join(sorted(tenants))}", param_hint="--tenant"
        )
    return tenants[named]


def ask_daemon(configuration: Configuration, method: str, path: str, body: Any = None) -> Any | None:
    """What a running daemon answers on its admin socket; None where none runs."""
    socket = bootstrap.admin_socket(configuration)
    if socket is None or not socket.exists():
        return None
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), timeout=10) as client:
        try:
            response = client.request(method, f"http://daemon{path}", json=body)
        except httpx.ConnectError:
            return None
        except httpx.HTTPError as error:
            raise CrmsyncError(f"the daemon did not answer on {socket} ({type(error).__name__})") from error
    if response.status_code != 200:
        raise CrmsyncError(f"the daemon refused: {response.text}")
    return response.json()
