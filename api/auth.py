"""Authentication and tenant scoping: every route reads the ledger through the reader of its caller.

A bearer token (`contracts.bearer_tokens`) identifies a tenant, who sees its own rows, or an operator, who sees all.
Without a key in the settings, every caller is an operator, and the API listens on loopback only.

Routes reach the warehouse only through `CallerReaders`, so a route cannot read around its caller's `LedgerReader`. A
route of a `LedgerRouter` that does not depend on that reader fails at import.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from access.authenticator import Authenticator
from contracts.bearer_tokens import is_loopback
from contracts.callers import Scope
from contracts.errors import AccessDenied, BadSetting
from contracts.settings import Settings
from warehouse.client import Warehouse
from warehouse.periods import newest
from warehouse.reader import LedgerReader, operator_reader, tenant_reader
from warehouse.results import Newest

_bearer = HTTPBearer(auto_error=False, description="JWT with `exp`, and a `tenant` claim or `role: operator`.")


class CallerReaders:
    """Makes the ledger reader of each caller from its token. Raises BadSetting for an unusable key."""

    def __init__(self, settings: Settings, warehouse: Warehouse) -> None:
        self._authenticator = _authenticator(settings)
        self._warehouse = warehouse

    def reader(self, token: str | None) -> LedgerReader:
        """Return the ledger as the token's holder may see it.

        Raises AccessDenied: 401 for no or a bad token, 403 for one that grants nothing.
        """
        if self._authenticator.open:
            return operator_reader(self._warehouse)
        caller = self._authenticator.caller(token)
        if caller.tenants is None:
            caller.require(Scope.ADMIN)
            return operator_reader(self._warehouse)
        caller.require(Scope.READ_TENANT)
        if caller.tenant is None:
            raise AccessDenied(403, "The API answers for one tenant; this credential has several.")
        return tenant_reader(self._warehouse, caller.tenant)

    def newest(self) -> Newest:
        """Return the ends of the ledger, which any caller may know."""
        return newest(self._warehouse)


def check_exposure(settings: Settings) -> None:
    """Raise BadSetting if the API would be open to a network without credentials, or if they cannot be verified."""
    if _authenticator(settings).open and not is_loopback(settings.api_host):
        raise BadSetting(
            "api_host",
            settings.api_host,
            "without api_jwt_key or keys_file the API listens on loopback only: 127.0.0.1",
        )


def _authenticator(settings: Settings) -> Authenticator:
    key = settings.api_jwt_key
    return Authenticator(settings, key.get_secret_value() if key else None, "api_jwt_key")


def _caller_reader(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> LedgerReader:
    readers: CallerReaders = request.app.state.readers
    return readers.reader(credentials.credentials if credentials else None)


def _operator_reader(reader: Annotated[LedgerReader, Depends(_caller_reader)]) -> LedgerReader:
    if reader.tenant is not None:
        raise AccessDenied(403, "Only operators see this: it is about all tenants.")
    return reader


CallerReader = Annotated[LedgerReader, Depends(_caller_reader)]
"""Parameter of a route: the ledger as its caller may see it."""
OperatorReader = Annotated[LedgerReader, Depends(_operator_reader)]
"""Parameter of a route for operators only. Other callers get 403."""


class LedgerRouter(APIRouter):
    """Router whose routes need a `CallerReader` or `OperatorReader` parameter. Raises TypeError for one without."""

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        """Add a route, after checking that it authenticates its caller."""
        super().add_api_route(path, endpoint, **options)
        route = self.routes[-1]
        assert isinstance(route, APIRoute)
        if not _authenticates(route.dependant):
            raise TypeError(f"{endpoint.__name__} ({path}) has no CallerReader or OperatorReader parameter: add one")


def _authenticates(dependant: Dependant) -> bool:
    return dependant.call is _caller_reader or any(_authenticates(part) for part in dependant.dependencies)
