"""An operator's questions on a server: the gate's checks, and the limits of each question."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.errors import AccessDenied, BadQuery
from tests.support.clickhouse_http import serve
from tests.support.ledger_rows import rows
from warehouse.client import Warehouse, connect
from warehouse.migrate import migrate
from warehouse.read_only_sql import read_only
from warehouse.reader import operator_reader, tenant_reader


@pytest.fixture(scope="module")
def warehouse(chdb_dsn: str, chdb_root: Path) -> Iterator[Warehouse]:
    """One warehouse for all tests of this module, over HTTP: none of them changes it."""
    with serve(chdb_root) as address, connect(address, database="asked") as warehouse:
        migrate(warehouse)
        warehouse.insert("ledger", rows("ledger", {"tenant": "a", "active_uj": 1}, {"tenant": "b", "active_uj": 2}))
        yield warehouse
        warehouse.command("DROP DATABASE asked")


def test_the_rows_are_those_of_the_table(warehouse: Warehouse) -> None:
    result = read_only(operator_reader(warehouse), "SELECT tenant, active_uj FROM ledger FINAL ORDER BY tenant")
    assert result == (["tenant", "active_uj"], [("a", 1), ("b", 2)])


def test_more_rows_than_the_limit_are_refused_not_cut_off(warehouse: Warehouse) -> None:
    sql = "SELECT number FROM numbers(11)"
    assert len(read_only(operator_reader(warehouse), sql, limit_rows=11)[1]) == 11
    with pytest.raises(BadQuery, match="Limit for result exceeded"):
        read_only(operator_reader(warehouse), sql, limit_rows=10)


@pytest.mark.parametrize("explain", ["", "EXPLAIN SELECT "])
def test_a_query_that_takes_too_long_is_stopped(warehouse: Warehouse, explain: str) -> None:
    slow = "(SELECT sum(sipHash64(number)) FROM numbers(1000000000000))"
    with pytest.raises(BadQuery, match=r"(?i)timeout"):
        read_only(operator_reader(warehouse), explain + slow, timeout_s=1)


def test_the_limits_of_a_query_do_not_persist_on_its_reader(warehouse: Warehouse) -> None:
    for _ in range(5):
        read_only(operator_reader(warehouse), "SELECT 1", limit_rows=1)
    assert len(warehouse.query("SELECT number FROM numbers(100)")) == 100


@pytest.mark.parametrize(
    "sql", ["SELECT no_such_column FROM ledger", "SELECT file('/etc/hostname')", "SELECT 1 FORMAT CSV"]
)
def test_an_error_does_not_show_the_servers_address(warehouse: Warehouse, chdb_root: Path, sql: str) -> None:
    with pytest.raises(BadQuery) as caught:
        read_only(operator_reader(warehouse), sql)
    assert "127.0.0.1" not in caught.value.fix
    assert str(chdb_root) not in caught.value.fix


def test_a_tenant_has_no_questions_on_the_operators_connection(warehouse: Warehouse) -> None:
    with pytest.raises(AccessDenied):
        read_only(tenant_reader(warehouse, "a"), "SELECT 1")
