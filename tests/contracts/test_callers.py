"""Callers: scopes decide, and tenants narrow them. Claims of tokens become callers by one rule."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.callers import ANYBODY, OWN, ROLES, Caller, Scope
from contracts.checks import MAX_TEXT
from contracts.claims import MAX_TENANTS, ClaimNames, caller_of
from contracts.errors import AccessDenied

FLEET, FINANCE, TENANT = Scope.READ_FLEET, Scope.READ_FINANCE, Scope.READ_TENANT
USAGE, REQUESTS, WRITE, ADMIN = Scope.SEND_USAGE, Scope.SEND_REQUESTS, Scope.WRITE_REFERENCE, Scope.ADMIN
READ, SEND = {FLEET, FINANCE, TENANT}, {USAGE, REQUESTS}


@pytest.mark.parametrize(
    ("claims", "tenants", "scopes"),
    [
        ({"tenant": "acme"}, {"acme"}, OWN),
        ({"role": "operator"}, None, set(Scope) - {TENANT}),
        ({"role": "gateway"}, None, SEND),
        ({"role": "admin"}, None, {FLEET, FINANCE, WRITE, ADMIN}),
        ({"role": "engineer"}, None, {FLEET}),
        ({"role": "viewer"}, None, {FLEET}),
        ({"roles": ["finance", "viewer"]}, None, {FLEET, FINANCE, WRITE}),
        ({"roles": ["offline_access", "finance"]}, None, {FINANCE, WRITE}),
        ({"tenant": "acme", "role": "engineer"}, {"acme"}, {FLEET, TENANT}),
        ({"tenants": ["acme", "globex"], "role": "tenant"}, {"acme", "globex"}, {TENANT}),
        ({"tenant": "acme", "tenants": ["globex"]}, {"acme", "globex"}, OWN),
        ({"tenant": "acme", "scope": "openid read:tenant"}, {"acme"}, {TENANT}),
        ({"tenant": "acme", "scp": ["send:requests"]}, {"acme"}, {REQUESTS}),
        ({"scope": "send:usage send:requests"}, None, SEND),
        ({"tenant": "acme", "scope": "openid profile"}, {"acme"}, OWN),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_claims_become_tenants_and_scopes(claims: Any, tenants: set[str] | None, scopes: set[Scope]) -> None:
    caller = caller_of(claims)
    assert (caller.tenants, caller.scopes) == (tenants, scopes)


def test_a_tenants_token_is_no_operators_and_no_gateways() -> None:
    for role in ("operator", "gateway", "unknown"):
        assert caller_of({"tenant": "acme", "role": role}).scopes == OWN


def test_a_token_with_scope_and_roles_has_what_both_grant() -> None:
    assert caller_of({"role": "finance", "scope": "read:finance admin"}).scopes == {FINANCE}
    with pytest.raises(AccessDenied):
        caller_of({"role": "viewer", "scope": "read:finance"})


@pytest.mark.parametrize(
    "claims",
    [
        {}, {"role": "somebody"}, {"role": ["admin"]}, {"tenant": ""}, {"tenant": ["acme"]}, {"tenant": 7},
        {"tenant": "__idle__"}, {"tenant": "\ud800"}, {"tenant": "a\nb"}, {"tenant": "x" * (MAX_TEXT + 1)},
        {"tenants": []}, {"tenants": {}}, {"tenants": ["acme", 7]}, {"tenants": ["acme", ""]},
        {"tenants": [str(n) for n in range(MAX_TENANTS + 1)]}, {"tenant": "acme", "sub": 7},
        {"tenant": "acme", "sub": ""}, {"tenant": "acme", "sub": "a\x00"}, {"tenant": "acme", "sub": "a", "iss": []},
    ],
    ids=lambda claims: str(claims)[:60],
)  # fmt: skip
def test_claims_that_grant_nothing_or_are_no_names_are_refused(claims: Any) -> None:
    with pytest.raises(AccessDenied) as refused:
        caller_of(claims)
    assert refused.value.status == 403


@pytest.mark.parametrize("claims", [{"role": "tenant"}, {"scope": "read:tenant"}, {"scope": "send:usage"}], ids=str)
def test_a_missing_tenant_never_means_all_tenants(claims: Any) -> None:
    with pytest.raises(AccessDenied):
        caller_of(claims)


@given(st.dictionaries(
    st.sampled_from(["tenant", "tenants", "role", "roles", "scope", "scp", "sub", "iss"]),
    st.recursive(
        st.none() | st.integers() | st.text(max_size=4)
        | st.sampled_from([*ROLES, *Scope, "acme", "read:fleet read:tenant"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
        max_leaves=4,
    ),
))  # fmt: skip
def test_any_claims_are_a_caller_with_a_name_and_scopes_or_refused(claims: dict[str, Any]) -> None:
    try:
        caller = caller_of(claims)
    except AccessDenied:
        return
    assert caller.scopes
    assert 0 < len(caller.name) <= MAX_TEXT
    assert caller.name.isprintable()
    if caller.tenants is None:
        assert claims.get("tenant") is None
        assert TENANT not in caller.scopes


def test_the_name_is_issuer_and_subject() -> None:
    assert caller_of({"tenant": "acme", "iss": "https://id.example", "sub": "u1"}).name == "https://id.example|u1"
    assert caller_of({"tenant": "acme"}).name == "tenant:acme"
    assert caller_of({"role": "gateway"}).name == "role:gateway"


def test_long_subjects_stay_apart() -> None:
    one, other = (caller_of({"tenant": "acme", "sub": "x" * 400 + end}).name for end in "ab")
    assert one != other
    assert len(one) == len(other) == MAX_TEXT


def test_claims_are_read_at_configured_paths_with_their_prefixes() -> None:
    names = ClaimNames("groups", "realm_access.roles", (), tenant_prefix="tenant-", role_prefix="wattlog-")
    claims = {
        "groups": ["tenant-acme", "staff", "tenant-globex"],
        "realm_access": {"roles": ["wattlog-finance", "admin"]},
        "scope": "read:fleet admin",
    }
    caller = caller_of(claims, names)
    assert (caller.tenants, caller.scopes) == ({"acme", "globex"}, {FINANCE, WRITE})
    dotted = caller_of({"https://a.example/roles": ["viewer"]}, ClaimNames(roles="https://a.example/roles"))
    assert dotted.scopes == {FLEET}


def test_no_role_of_people_reads_and_sends() -> None:
    for role, scopes in ROLES.items():
        assert role == "operator" or not (scopes & READ and scopes & SEND)


def test_scopes_include_no_others() -> None:
    for scope in Scope:
        caller = Caller("k", None, frozenset({scope}))
        for other in Scope:
            assert caller.may(other) == (other is scope)
        with pytest.raises(AccessDenied, match="scope"):
            caller.require(*(set(Scope) - {scope}))


def test_an_event_is_paid_by_a_tenant_of_its_sender() -> None:
    assert ANYBODY.payer("acme") == "acme"
    assert ANYBODY.payer("") == ""
    one, two = (Caller("k", frozenset(names), OWN) for names in (["acme"], ["acme", "globex"]))
    assert one.payer("") == one.payer("acme") == two.payer("acme") == "acme"
    for caller, named in ((one, "globex"), (two, ""), (two, "initech")):
        with pytest.raises(AccessDenied, match="tenant"):
            caller.payer(named)
