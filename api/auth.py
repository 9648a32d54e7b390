"""Who asks, and what they may see: bearer tokens (`contracts.bearer_tokens`), or nobody's business on loopback."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from contracts import bearer_tokens
from contracts.bearer_tokens import is_loopback
from contracts.errors import AccessDenied, BadSetting
from contracts.settings import Settings

OPERATOR = "operator"

_bearer = HTTPBearer(auto_error=False, description="JWT with `exp`, and a `tenant` claim or `role: operator`.")


@dataclass(frozen=True, slots=True)
class Caller:
    """`tenant` None: an operator, who sees all."""

    tenant: str | None

    def scope(self, asked: str | None) -> str | None:
        """The tenant that an answer is about: the caller's own, or what an operator asked for. Raises AccessDenied."""
        if self.tenant is None:
            return asked
        if asked not in (None, "", self.tenant):
            raise AccessDenied(403, "This token sees its own tenant only.")
        return self.tenant


class Verifier:
    """Reads tokens with the key of the settings; without one, everybody is an operator (loopback only)."""

    def __init__(self, settings: Settings) -> None:
        key = settings.api_jwt_key
        self._tokens = bearer_tokens.TokenVerifier(key.get_secret_value() if key else None, "api_jwt_key")

    @property
    def open(self) -> bool:
        return self._tokens.open

    def caller(self, token: str | None) -> Caller:
        """Who holds this token. Raises AccessDenied (401 for no or a bad token, 403 for one that grants nothing)."""
        if self.open:
            return Caller(None)
        claims = self._tokens.claims(token)
        if claims.tenant is not None or claims.role == OPERATOR:
            return Caller(claims.tenant)
        raise AccessDenied(403, "The bearer token has neither a tenant claim nor role: operator.")


def check_exposure(settings: Settings) -> None:
    """Raises BadSetting where the API would be open to a network without tokens, or the key is unfit."""
    if settings.api_jwt_key is not None:
        Verifier(settings)
    elif not is_loopback(settings.api_host):
        raise BadSetting(
            "api_host", settings.api_host, "without api_jwt_key the API listens on loopback only: 127.0.0.1"
        )


def _caller(request: Request, sent: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> Caller:
    verifier: Verifier = request.app.state.verifier
    return verifier.caller(sent.credentials if sent else None)


def _operator(caller: Annotated[Caller, Depends(_caller)]) -> Caller:
    if caller.tenant is not None:
        raise AccessDenied(403, "Only operators see this: it is about all tenants.")
    return caller


AnyCaller = Annotated[Caller, Depends(_caller)]
Operator = Annotated[Caller, Depends(_operator)]
