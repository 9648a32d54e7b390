"""`wattlog tenant-user`: writes the SQL that makes ClickHouse users for questions of tenants and analysts."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from cli.audit_entries import recorded_change
from cli.options import Data
from cli.output import errors_reported, note
from cli.settings import load_settings

if TYPE_CHECKING:
    from contracts.settings import Settings

tenant_user = typer.Typer(
    no_args_is_help=True,
    help="Write the SQL that makes users of a ClickHouse server who ask SQL themselves. It is printed, not run: run it "
    "as the user of the workers, with the right to make users. docs/warehouse.md describes what such a user may do.",
)


@tenant_user.command()
def create(
    tenant: Annotated[str, typer.Argument(help="The tenant, as the ledger names it.")],
    data: Data = None,
) -> None:
    """Write the SQL of a tenant's user, who reads views of that tenant's rows. Its password is shown once.

    Example: wattlog tenant-user create acme > acme.sql
    """
    with errors_reported():
        from warehouse.ad_hoc import tenant_users

        password = secrets.token_urlsafe(24)
        settings = load_settings(data)
        with recorded_change(settings, "tenant_user.create", tenant):
            _write(tenant_users.tenant_user(tenant, _database(settings), password))
        note(f"user {tenant_users.user_name(tenant)}, password {password}: shown this once; the SQL has its hash only")


@tenant_user.command(name="analyst-role")
def analyst_role(data: Data = None) -> None:
    """Write the SQL of the role wattlog_analyst, which reads all rows of the ledger and nothing else.

    Example: wattlog tenant-user analyst-role > analysts.sql
    """
    with errors_reported():
        from warehouse.ad_hoc import tenant_users

        _write(tenant_users.analyst_role(_database(load_settings(data))))


def _database(settings: Settings) -> str:
    """Return the database that the settings name."""
    from warehouse.dsn import opener

    return opener(settings.dsn, database="wattlog", password=None).database


def _write(statements: Iterable[str]) -> None:
    for statement in statements:
        typer.echo(f"{statement};")
