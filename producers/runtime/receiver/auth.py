"""Authentication of senders, and the tenants that their events may name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from contracts import bearer_tokens
from contracts.checks import MAX_TEXT
from contracts.errors import AccessDenied, BadSetting

ROLES = ("gateway", "operator")
"""Roles that may name tenants. An operator has that role in the API too; a gateway only sends."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Authenticated sender. `tenant` is None for a gateway or an operator, which may name the tenant of an event."""

    tenant: str | None

    def payer(self, named: str) -> str:
        """Return the tenant of an event that names `named` ("" for none).

        Raises AccessDenied (403) for the token of one tenant with an event that names another.
        """
        if self.tenant is None:
            return named
        if named not in ("", self.tenant):
            raise AccessDenied(
                403, f"tenant: {named[:MAX_TEXT]!r}: this token's events are its own tenant's; leave the tenant out."
            )
        return self.tenant


class Verifier:
    """Verifier of bearer tokens. Without a key, every client may name tenants (loopback only).

    Raises BadSetting for a key that cannot be used. `setting` names it in errors.
    """

    def __init__(self, key: str | None, setting: str = "produce.http.jwt_key") -> None:
        self._tokens = bearer_tokens.TokenVerifier(key, setting)

    @property
    def open(self) -> bool:
        return self._tokens.open

    def caller(self, headers: Mapping[str, str]) -> Caller:
        """Return the sender of a request with these headers, whose names are in small letters.

        Raises AccessDenied: 401 for no token or a bad one, 403 for one that grants nothing.
        """
        if self.open:
            return Caller(None)
        scheme, _, token = headers.get("authorization", "").partition(" ")
        claims = self._tokens.claims(token.strip() if scheme.lower() == "bearer" else None)
        if claims.tenant is not None:
            name = claims.tenant
            if name.startswith("__") or len(name) > MAX_TEXT or not name.isprintable():
                raise AccessDenied(403, "The tenant claim of the bearer token is no name that a tenant may have.")
            return Caller(name)
        if claims.role in ROLES:
            return Caller(None)
        raise AccessDenied(403, "The bearer token has neither a tenant claim nor role: gateway.")


def check_exposure(host: str, verifier: Verifier) -> None:
    """Raise BadSetting where a client on the network could send without a token."""
    if verifier.open and not bearer_tokens.is_loopback(host):
        raise BadSetting("produce.http.host", host, "without jwt_key it listens on loopback only: 127.0.0.1")
