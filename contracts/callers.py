"""`Caller`: who a verified credential is, for which tenants it acts, and what it may do. Pure.

The API, the receivers and the command line decide by scopes alone. Roles are named sets of scopes. `tenants` narrows
every scope: a credential that is bound to tenants never reads or sends another's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from contracts.checks import MAX_TEXT
from contracts.errors import AccessDenied


class Scope(StrEnum):
    """One right. No scope includes another: one to read is never one to send."""

    READ_FLEET = "read:fleet"
    """Energy, tokens and latencies, without money."""
    READ_FINANCE = "read:finance"
    """Energy, tokens and money."""
    READ_TENANT = "read:tenant"
    """Everything of the caller's own tenants, money too."""
    SEND_USAGE = "send:usage"
    """Events of usage, which share no energy."""
    SEND_REQUESTS = "send:requests"
    """Requests of models: they share the energy of a workload with others."""
    WRITE_REFERENCE = "write:reference"
    """Changes of tenants, prices, floors, weights and clusters; all of them are its to read, too."""
    ADMIN = "admin"
    """Reads what only administrators may."""


OWN = frozenset({Scope.READ_TENANT, Scope.SEND_USAGE})
"""Scopes of a tenant's own credential."""
SEND = frozenset({Scope.SEND_USAGE, Scope.SEND_REQUESTS})
OPERATOR, GATEWAY = "operator", "gateway"
ROLES: Mapping[str, frozenset[Scope]] = MappingProxyType({
    "admin": frozenset({Scope.READ_FLEET, Scope.READ_FINANCE, Scope.WRITE_REFERENCE, Scope.ADMIN}),
    "finance": frozenset({Scope.READ_FINANCE, Scope.WRITE_REFERENCE}),
    "engineer": frozenset({Scope.READ_FLEET, Scope.READ_TENANT}),
    "viewer": frozenset({Scope.READ_FLEET}),
    "tenant": frozenset({Scope.READ_TENANT}),
    OPERATOR: frozenset(Scope) - {Scope.READ_TENANT},
    GATEWAY: SEND,
})  # fmt: skip
"""Scopes of each role."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Verified caller."""

    name: str
    """Who it is: an API key's name, or a token's issuer and subject. Empty without a credential, on loopback."""
    tenants: frozenset[str] | None
    """The tenants that it may act for; None: all."""
    scopes: frozenset[Scope]

    def may(self, *scopes: Scope) -> bool:
        """Return True if it has one of these scopes."""
        return not self.scopes.isdisjoint(scopes)

    def require(self, *scopes: Scope) -> None:
        """Raise AccessDenied (403) unless it has one of these scopes."""
        if not self.may(*scopes):
            raise AccessDenied(403, f"This needs the scope {' or '.join(scopes)}, which this credential lacks.")

    @property
    def tenant(self) -> str | None:
        """The only tenant that it may act for; None for several or all."""
        return next(iter(self.tenants)) if self.tenants is not None and len(self.tenants) == 1 else None

    def may_name(self, tenant: str) -> bool:
        """Return True if an event that it sends may name this tenant."""
        return self.tenants is None or tenant in self.tenants

    def payer(self, named: str) -> str:
        """Return the tenant of an event that names `named` ("" for none).

        Raises AccessDenied (403) for a tenant that is not the caller's, and for none where the caller has several.
        """
        tenant = named or self.tenant or ""
        if not self.may_name(tenant):
            fix = "its own tenant's; leave the tenant out" if self.tenant else "its own tenants'; name one of them"
            raise AccessDenied(403, f"tenant: {named[:MAX_TEXT]!r}: this token's events are {fix}.")
        return tenant


ANYBODY = Caller("", None, frozenset(Scope) - {Scope.READ_TENANT})
"""Caller of a listener on loopback that has no key."""


def is_tenant_name(value: object) -> bool:
    """Return True if a value is a name that a tenant may have: Wattlog's own begin with `__`."""
    return isinstance(value, str) and 0 < len(value) <= MAX_TEXT and value.isprintable() and not value.startswith("__")
