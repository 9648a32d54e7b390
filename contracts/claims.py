"""Maps the claims of a verified token to its `Caller`. Pure.

Claims decide in this order: a `scope` that names scopes of Wattlog; else the roles. Where a token has both, it has what
both grant. Scopes and roles of other programs are not read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from contracts.callers import GATEWAY, OPERATOR, OWN, ROLES, Caller, Scope, is_tenant_name
from contracts.checks import MAX_TEXT
from contracts.errors import AccessDenied

MAX_TENANTS = 1_000
"""Tenants of one caller."""
_SCOPES = frozenset(Scope)
_DIGEST_CHARS = 64


class ClaimNames(NamedTuple):
    """Paths of claims: `realm_access.roles` is the member `roles` of the claim `realm_access`."""

    tenants: str = "tenants"
    """A list of tenants. The claim `tenant`, one text, is read too."""
    roles: str = "roles"
    """A list of roles. The claim `role`, one text, is read too."""
    scopes: Sequence[str] = ("scope", "scp")
    """Scopes, separated by spaces (RFC 8693) or as a list."""
    tenant_prefix: str = ""
    """Beginning of the texts that name tenants, where other texts are among them. It is cut off."""
    role_prefix: str = ""
    """Beginning of the texts that name roles. It is cut off."""


_DEFAULT = ClaimNames()


def caller_of(claims: Mapping[str, object], names: ClaimNames = _DEFAULT, otherwise: frozenset[Scope] = OWN) -> Caller:
    """Return the caller of a verified token. `otherwise`: scopes of a token with tenants and neither scope nor role.

    Raises AccessDenied (403) for claims that grant nothing or name no tenant.
    """
    tenants = _tenants(claims, names)
    scopes = frozenset(Scope(text) for path in names.scopes for text in _scopes(claims, path) if text in _SCOPES)
    roles = [role for role in _roles(claims, names) if role in ROLES]
    if tenants is not None:  # A tenant's token was never an operator's.
        roles = [role for role in roles if role not in (OPERATOR, GATEWAY)]
    by_role = frozenset().union(*(ROLES[role] for role in roles))
    if scopes:
        scopes = scopes & by_role if roles else scopes
    else:
        scopes = by_role if roles else otherwise if tenants is not None else frozenset()
    if tenants is None:
        scopes = _of_all_tenants(scopes)
    if not scopes:
        raise AccessDenied(403, "The bearer token has neither a tenant claim nor a role or scope that grants anything.")
    return Caller(_name(claims, tenants, roles), tenants, scopes)


def _of_all_tenants(scopes: frozenset[Scope]) -> frozenset[Scope]:
    """Return the scopes that mean something without tenants: a claim that is missing must not mean all tenants."""
    return scopes - ({Scope.READ_TENANT} if Scope.SEND_REQUESTS in scopes else OWN)


def _tenants(claims: Mapping[str, object], names: ClaimNames) -> frozenset[str] | None:
    """Return the tenants that a token names, None if it has no such claim."""
    one, several = claims.get("tenant"), _at(claims, names.tenants)
    if one is None and several is None:
        return None
    named: list[object] = [] if one is None else [one]
    if several is not None:
        texts = several if isinstance(several, list) else [several]
        prefix = names.tenant_prefix
        named += [text.removeprefix(prefix) if isinstance(text, str) else text for text in texts
                  if not prefix or (isinstance(text, str) and text.startswith(prefix))]  # fmt: skip
    if len(named) > MAX_TENANTS:
        raise AccessDenied(403, f"The bearer token names {len(named)} tenants; at most {MAX_TENANTS} are read.")
    tenants = frozenset(text for text in named if isinstance(text, str) and is_tenant_name(text))
    if not tenants or not all(is_tenant_name(text) for text in named):
        raise AccessDenied(403, "The tenant claim of the bearer token is no name that a tenant may have.")
    return tenants


def _scopes(claims: Mapping[str, object], path: str) -> list[str]:
    value = _at(claims, path)
    return value.split() if isinstance(value, str) else _texts(value)


def _roles(claims: Mapping[str, object], names: ClaimNames) -> list[str]:
    prefix = names.role_prefix
    several = _at(claims, names.roles)
    texts = [several] if isinstance(several, str) else _texts(several)
    return [*_texts([claims.get("role")]), *(t.removeprefix(prefix) for t in texts if t.startswith(prefix))]


def _texts(value: object) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _at(claims: Mapping[str, object], path: str) -> object:
    """Return the value at a path, None where there is none. A claim whose own name has dots is read as it is."""
    if path in claims or not path:
        return claims.get(path)
    value: object = claims
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _name(claims: Mapping[str, object], tenants: frozenset[str] | None, roles: Sequence[str]) -> str:
    """Return issuer and subject, separated by `|`; without a subject, the tenants or the role.

    Names of API keys have neither `|` nor `:`, so no two kinds of caller share a name.
    """
    issuer, subject = claims.get("iss", ""), claims.get("sub")
    if subject is None:
        name = f"tenant:{','.join(sorted(tenants))}" if tenants is not None else f"role:{','.join(roles) or '-'}"
    elif isinstance(subject, str) and subject and isinstance(issuer, str):
        name = f"{issuer}|{subject}"
    else:
        raise AccessDenied(403, "The subject of the bearer token is no text.")
    if not name.isprintable():
        raise AccessDenied(403, "The subject of the bearer token is not printable.")
    if len(name) <= MAX_TEXT:
        return name
    return name[: MAX_TEXT - _DIGEST_CHARS] + hashlib.sha256(name.encode()).hexdigest()
