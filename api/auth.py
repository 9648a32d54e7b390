"""Who asks, and what they may see: bearer tokens (`contracts.bearer_tokens`), or nobody's business on loopback."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from contracts import bearer_tokens
from contracts.bearer_tokens import is_loopback
from contracts.errors import AccessDenied, BadSetting
from contracts.settings import Settings
from warehouse.client import Warehouse
from warehouse.reader import LedgerReader, operator_reader, tenant_reader

OPERATOR = "operator"

_bearer = HTTPBearer(auto_error=False, description="JWT with `exp`, and a `tenant` claim or `role: operator`.")


class Verifier:
    """Reads tokens with the key of the settings; without one, everybody is an operator (loopback only)."""

    def __init__(self, settings: Settings) -> None:
        key = settings.api_jwt_key
        self._tokens = bearer_tokens.TokenVerifier(key.get_secret_value() if key else None, "api_jwt_key")

    @property
    def open(self) -> bool:
        return self._tokens.open

    def reader(self, token: str | None, warehouse: Warehouse) -> LedgerReader:
        """Return the warehouse as the token's holder may see it.

        Raises AccessDenied: 401 for no or a bad token, 403 for one that grants nothing.
        """
        if self.open:
            return operator_reader(warehouse)
        claims = self._tokens.claims(token)
        if claims.tenant is not None:
            return tenant_reader(warehouse, claims.tenant)
        if claims.role == OPERATOR:
            return operator_reader(warehouse)
        raise AccessDenied(403, "The bearer token has neither a tenant claim nor role: operator.")


def check_exposure(settings: Settings) -> None:
    """Raises BadSetting where the API would be open to a network without tokens, or the key is unfit."""
    if settings.api_jwt_key is not None:
        Verifier(settings)
    elif not is_loopback(settings.api_host):
        raise BadSetting(
            "api_host", settings.api_host, "without api_jwt_key the API listens on loopback only: 127.0.0.1"
        )


def _reader(request: Request, sent: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> LedgerReader:
    verifier: Verifier = request.app.state.verifier
    return verifier.reader(sent.credentials if sent else None, request.app.state.warehouse)


def _operator(reader: Annotated[LedgerReader, Depends(_reader)]) -> LedgerReader:
    if reader.tenant is not None:
        raise AccessDenied(403, "Only operators see this: it is about all tenants.")
    return reader


ReaderOf = Annotated[LedgerReader, Depends(_reader)]
"""The warehouse as the caller may see it. Routes get no other access to it."""
OperatorOf = Annotated[LedgerReader, Depends(_operator)]
"""The same for routes that only operators may call."""
