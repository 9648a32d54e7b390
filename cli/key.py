"""`wattlog key`: makes, lists and revokes API keys."""

from __future__ import annotations

import secrets
import time
from contextlib import ExitStack
from typing import Annotated, Any

import typer

from cli.audit_entries import recorded_change
from cli.options import Data, Json
from cli.output import errors_reported, note, print_json
from cli.settings import load_settings
from cli.tables import print_table, text_column

_COLUMNS = tuple(text_column(name, name) for name in ("id", "name", "state", "expires", "tenants", "scopes"))
key = typer.Typer(
    no_args_is_help=True,
    help="Make, list and revoke API keys, in the file that the setting keys_file names. The API and the receivers read "
    "it again when it changes. docs/access.md describes scopes and roles.",
)


@key.command()
def create(
    name: Annotated[str, typer.Argument(help="Who uses it: a-z 0-9 . _ -. Requests name it as their sender.")],
    role: Annotated[str | None, typer.Option(help="admin, finance, engineer, viewer, tenant or gateway.")] = None,
    scope: Annotated[list[str] | None, typer.Option(help="Instead of a role: one scope. May be repeated.")] = None,
    tenant: Annotated[list[str] | None, typer.Option(help="A tenant that it acts for. May be repeated.")] = None,
    all_tenants: Annotated[bool, typer.Option("--all-tenants", help="It acts for all tenants.")] = False,
    days: Annotated[int, typer.Option(help="Days until it expires, at most 365.")] = 90,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Make a key and show it, once. Only its hash is stored.

    Example: wattlog key create litellm --role gateway --all-tenants
    """
    with errors_reported():
        from access.api_keys import SECRET_BYTES, key_text, new_key, with_key
        from access.keys_file import changing_keys
        from contracts.errors import BadInput
        from contracts.units import rfc3339

        path, settings = _file(data)
        if bool(tenant) == all_tenants:
            raise BadInput("tenant", tenant, "give --tenant for each of its tenants, or --all-tenants")
        secret = secrets.token_bytes(SECRET_BYTES)
        fresh = new_key(name, _scopes(role, scope), tenant or None, days, _now_ms(), secret)
        rights = {"scopes": " ".join(sorted(fresh.scopes)), "tenants": _tenants(fresh.tenants)}
        with (
            changing_keys(path) as (keys, replace),
            recorded_change(settings, "key.create", f"{fresh.name}:{fresh.id}", **rights),
        ):
            replace(with_key(keys, fresh))
        text, expires = key_text(secret), rfc3339(fresh.expires_ms)
        if as_json:
            print_json({"id": fresh.id, "name": fresh.name, "key": text, "expires": expires} | rights)
            return
        note(f"Key {fresh.id} of {fresh.name}, until {expires}. It is not shown again:")
        typer.echo(text)


@key.command("list")
def list_(data: Data = None, as_json: Json = False) -> None:
    """List the keys, without their secrets, which are not stored."""
    with errors_reported():
        from access.keys_file import read_keys
        from contracts.units import rfc3339

        path, _ = _file(data)
        keys = read_keys(path) if path.exists() else []
        rows: list[dict[str, Any]] = [
            {
                "id": stored.id, "name": stored.name, "state": stored.state(_now_ms()),
                "expires": rfc3339(stored.expires_ms), "tenants": _tenants(stored.tenants),
                "scopes": " ".join(sorted(stored.scopes)),
            }
            for stored in keys
        ]  # fmt: skip
        if as_json:
            print_json(rows)
        elif rows:
            print_table(rows, _COLUMNS, title="API keys")
        else:
            note("No keys yet. Make one: wattlog key create NAME --role viewer --all-tenants")


@key.command()
def revoke(
    which: Annotated[str, typer.Argument(metavar="ID|NAME", help="Id of a key, or the name of all that bear it.")],
    data: Data = None,
) -> None:
    """Revoke a key. The API and the receivers refuse it within a second of seeing the file."""
    with errors_reported():
        from access.api_keys import without_keys
        from access.keys_file import changing_keys

        path, settings = _file(data)
        with changing_keys(path) as (keys, replace):
            remaining, revoked = without_keys(keys, which, _now_ms())
            with ExitStack() as changes:
                for ended in revoked:
                    changes.enter_context(recorded_change(settings, "key.revoke", f"{ended.name}:{ended.id}"))
                replace(remaining)
        note(f"Revoked {', '.join(f'{ended.name} ({ended.id})' for ended in revoked) or 'nothing: it was before'}.")


def _file(data: Any) -> tuple[Any, Any]:
    """Return the path of the keys, and the settings. Raises BadSetting without the setting."""
    from contracts.errors import BadSetting

    settings = load_settings(data, quiet=True)
    if settings.keys_file is None:
        raise BadSetting("keys_file", "", "name the file of keys, such as WATTLOG_KEYS_FILE=/etc/wattlog/keys.json")
    return settings.keys_file, settings


def _scopes(role: str | None, scopes: list[str] | None) -> list[str]:
    from contracts.callers import ROLES
    from contracts.errors import BadInput

    if (role is None) == (not scopes):
        raise BadInput("role", role, "give --role, or --scope once or more")
    if role is not None and role not in ROLES:
        raise BadInput("role", role, f"give one of {', '.join(ROLES)}")
    return sorted(ROLES[role]) if role is not None else list(scopes or [])


def _tenants(tenants: frozenset[str] | None) -> str:
    return "all" if tenants is None else ", ".join(sorted(tenants))


def _now_ms() -> int:
    return round(time.time() * 1000)
