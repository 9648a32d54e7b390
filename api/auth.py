"""Authentication, scopes and tenants: every route reads the ledger through the reader of its caller.

`access.authenticator` finds the caller of a credential. Without one in the settings, every caller may read all, and the
API listens on loopback only. The caller's tenants narrow what it reads; scopes say which routes it may use at all.

Routes reach the warehouse only through `CallerReaders`, so a route cannot read around its caller's `LedgerReader`. Each
route of a `LedgerRouter` declares which scopes it needs by the reader that it takes; one without fails at import.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from access.authenticator import Authenticator
from contracts.bearer_tokens import is_loopback
from contracts.callers import Caller, Scope
from contracts.errors import AccessDenied, BadSetting
from contracts.settings import Settings
from warehouse.client import Warehouse
from warehouse.periods import newest
from warehouse.reader import LedgerReader, operator_reader, tenant_reader
from warehouse.results import Newest

MONEY = (Scope.READ_FINANCE, Scope.READ_TENANT)
_bearer = HTTPBearer(auto_error=False, description="An API key, or a JWT: docs/access.md has scopes, roles and claims.")


class CallerReaders:
    """Makes callers from credentials, and their ledger readers. Raises BadSetting for an unusable key."""

    def __init__(self, settings: Settings, warehouse: Warehouse) -> None:
        self._authenticator = _authenticator(settings)
        self._warehouse = warehouse

    def caller(self, token: str | None) -> Caller:
        """Return the caller of a credential.

        Raises AccessDenied: 401 for none or a bad one, 403 for one that grants nothing.
        """
        return self._authenticator.caller(token)

    def reader(self, caller: Caller) -> LedgerReader:
        """Return the ledger as a caller's tenants narrow it."""
        if caller.tenants is None:
            return operator_reader(self._warehouse)
        return tenant_reader(self._warehouse, *caller.tenants)

    def newest(self) -> Newest:
        """Return the ends of the ledger, which any caller may know."""
        return newest(self._warehouse)


def check_exposure(settings: Settings) -> None:
    """Raise BadSetting if the API would be open to a network without credentials, or if they cannot be verified."""
    if _authenticator(settings).open and not is_loopback(settings.api_host):
        raise BadSetting(
            "api_host",
            settings.api_host,
            "without api_jwt_key, oidc_issuer or keys_file the API listens on loopback only: 127.0.0.1",
        )


def _authenticator(settings: Settings) -> Authenticator:
    key = settings.api_jwt_key
    return Authenticator(settings, key.get_secret_value() if key else None, "api_jwt_key")


def _caller(request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> Caller:
    readers: CallerReaders = request.app.state.readers
    request.state.caller = readers.caller(credentials.credentials if credentials else None)
    return request.state.caller  # type: ignore[no-any-return]


_Authenticated = Annotated[Caller, Depends(_caller)]


def _caller_reader(request: Request, caller: _Authenticated) -> LedgerReader:
    caller.require(Scope.READ_FLEET, *MONEY)
    return request.app.state.readers.reader(caller)  # type: ignore[no-any-return]


def _money_reader(request: Request, caller: _Authenticated) -> LedgerReader:
    caller.require(*MONEY)
    return request.app.state.readers.reader(caller)  # type: ignore[no-any-return]


def _fleet_reader(request: Request, caller: _Authenticated) -> LedgerReader:
    caller.require(Scope.READ_FLEET)
    _require_all_tenants(caller)
    return request.app.state.readers.reader(caller)  # type: ignore[no-any-return]


def _sql_reader(request: Request, caller: _Authenticated) -> LedgerReader:
    caller.require(Scope.ADMIN if caller.tenants is None else Scope.READ_TENANT)
    return request.app.state.readers.reader(caller)  # type: ignore[no-any-return]


def _reference_reader(request: Request, caller: _Authenticated) -> LedgerReader:
    caller.require(Scope.READ_FINANCE, Scope.WRITE_REFERENCE)
    _require_all_tenants(caller)
    return request.app.state.readers.reader(caller)  # type: ignore[no-any-return]


def _reference_editor(request: Request, caller: _Authenticated) -> LedgerReader:
    caller.require(Scope.WRITE_REFERENCE)
    _require_all_tenants(caller)
    return request.app.state.readers.reader(caller)  # type: ignore[no-any-return]


def _require_all_tenants(caller: Caller) -> None:
    if caller.tenants is not None:
        raise AccessDenied(403, "Only credentials of all tenants see this: it is about all of them.")


CallerReader = Annotated[LedgerReader, Depends(_caller_reader)]
"""Parameter of a route on energy, tokens and latencies, which has no money: any scope to read."""
MoneyReader = Annotated[LedgerReader, Depends(_money_reader)]
"""Parameter of a route on money: `read:finance`, or `read:tenant` of the caller's own tenants."""
FleetReader = Annotated[LedgerReader, Depends(_fleet_reader)]
"""Parameter of a route on the whole fleet: `read:fleet`, of all tenants."""
SqlReader = Annotated[LedgerReader, Depends(_sql_reader)]
"""Parameter of a route that takes SQL: `admin` of all tenants, or `read:tenant` of the caller's own."""
ReferenceReader = Annotated[LedgerReader, Depends(_reference_reader)]
"""Parameter of a route that lists reference data: `read:finance` or `write:reference`, of all tenants."""
ReferenceEditor = Annotated[LedgerReader, Depends(_reference_editor)]
"""Parameter of a route that changes reference data: `write:reference`, of all tenants."""
_READERS = (_caller_reader, _money_reader, _fleet_reader, _sql_reader, _reference_reader, _reference_editor)


def may_see_money(request: Request) -> bool:
    """Return True if the caller of a request may see money."""
    caller: Caller = request.state.caller
    return caller.may(*MONEY)


def require_money(request: Request) -> None:
    """Raise AccessDenied (403) if the caller of a request may not see money."""
    caller: Caller = request.state.caller
    caller.require(*MONEY)


class LedgerRouter(APIRouter):
    """Router whose routes take a `CallerReader`, `MoneyReader` or `FleetReader`. Raises TypeError for one without."""

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        """Add a route, after checking that it authenticates its caller."""
        super().add_api_route(path, endpoint, **options)
        route = self.routes[-1]
        assert isinstance(route, APIRoute)
        if not any(part.call in _READERS for part in route.dependant.dependencies):
            raise TypeError(
                f"{endpoint.__name__} ({path}) has no CallerReader, MoneyReader or FleetReader parameter: add one"
            )
