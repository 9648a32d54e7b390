"""DDL of ClickHouse users: the engine parses every statement, and no name of a tenant is more than a value.

chdb parses these statements, but has no users: that they work is to be tried on a server.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import BadInput
from warehouse.ad_hoc.copies import FOR_TENANTS, TENANT_TABLES
from warehouse.ad_hoc.tenant_users import analyst_role, tenant_user, user_name
from warehouse.ad_hoc.views import TENANT_VIEWS
from warehouse.client import Warehouse

HOSTILE = [
    "acme", "it's", "back\\slash", "`; DROP TABLE ledger; --", "' OR 1=1 --", "\\' OR 1=1 --", "a\nb", "a\tb", "${x}",
    "ünïcödé", "租户", "🔌", "a" * 253, "{tenant:String}", "--", "/*", "\\", "'", "''", "\u2019", "\u202e",
]  # fmt: skip


def formatted(warehouse: Warehouse, statement: str) -> str:
    with warehouse.reader() as client:
        question = f"SELECT formatQuerySingleLine(unhex('{statement.encode().hex()}')) AS text"
        return str(client.query(question).result_rows[0][0])


@pytest.mark.parametrize("tenant", HOSTILE)
def test_the_engine_parses_every_statement_as_one(warehouse: Warehouse, tenant: str) -> None:
    for statement in (*tenant_user(tenant, "wattlog", "secret"), *analyst_role("wattlog")):
        assert formatted(warehouse, statement)


@pytest.mark.parametrize("tenant", HOSTILE)
def test_a_name_is_a_value_in_conditions_and_in_no_identifier(warehouse: Warehouse, tenant: str) -> None:
    for statement in tenant_user(tenant, "wattlog", "secret"):
        for condition in re.findall(r"tenant = ('(?:[^'\\]|\\.)*')", statement, re.DOTALL):
            assert warehouse.query(f"SELECT {condition} AS name") == [{"name": tenant}]
        identifiers = re.findall(r"`([^`]*)`", re.sub(r"'(?:[^'\\]|\\.)*'", "", statement, flags=re.DOTALL))
        assert all(re.fullmatch(r"[a-z_0-9]+", name) for name in identifiers)


def test_each_view_of_a_tenants_rows_has_its_condition_and_its_definer() -> None:
    views = [s for s in tenant_user("acme", "wattlog", "secret") if s.startswith("CREATE OR REPLACE VIEW")]
    assert len(views) == len(FOR_TENANTS)
    assert all("SQL SECURITY DEFINER" in view for view in views)
    assert sum("WHERE tenant = 'acme'" in view for view in views) == len(TENANT_TABLES) + len(TENANT_VIEWS)


def test_grants_are_on_the_users_views_only() -> None:
    user = user_name("acme")
    grants = [s for s in tenant_user("acme", "wattlog", "secret") if s.startswith("GRANT")]
    assert grants
    assert all(re.fullmatch(rf"GRANT SELECT ON `{user}`\.`\w+` TO `{user}`", grant) for grant in grants)


def test_a_password_is_in_no_statement() -> None:
    assert not [s for s in tenant_user("acme", "wattlog", "open-sesame") if "open-sesame" in s]


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
def test_two_tenants_have_two_users(one: str, other: str) -> None:
    try:
        names = user_name(one), user_name(other)
    except BadInput:
        return
    assert (names[0] == names[1]) == (one == other)


@pytest.mark.parametrize("tenant", ["", "\x00", "a\x00b", "\ud800"])
def test_a_name_that_cannot_be_one_is_refused(tenant: str) -> None:
    with pytest.raises(BadInput, match="tenant"):
        list(tenant_user(tenant, "wattlog", "secret"))
