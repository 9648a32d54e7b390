"""The view `bill_lines`: lines of closed months as analysts and tenants read them."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from billing.proof import line_record
from tests.warehouse.billing.quarter import CLOSED_AT_MS, TOKENS_BOOK, book, closed, finish, price, use
from warehouse.ad_hoc.saved_questions import saved_question
from warehouse.billing.closing import closed_lines, reopen
from warehouse.client import Warehouse, connect
from warehouse.migrate import migrate
from warehouse.read_only_sql import read_only
from warehouse.reader import operator_reader, tenant_reader

REVENUE = '[[rates]]\nname = "sold"\nside = "revenue"\nmeter = "output_tokens"\nprice = "5"\nper = 1_000_000\n'
TOTALS = "SELECT period, tenant, side, sum(amount) AS money FROM bill_lines GROUP BY ALL ORDER BY ALL"


@pytest.fixture
def warehouse(chdb_dsn: str) -> Iterator[Warehouse]:
    """A warehouse inside the process, where tenants may ask SQL."""
    with connect(chdb_dsn, database="of_bill_lines") as warehouse:
        migrate(warehouse)
        yield warehouse
        warehouse.command("DROP DATABASE of_bill_lines")


@pytest.fixture
def month(warehouse: Warehouse) -> Warehouse:
    """September, closed: 100 kWh and million tokens of acme's llama, 50 of beta's, and October's, which is not."""
    price(warehouse)
    book(warehouse, TOKENS_BOOK + REVENUE)
    use(warehouse, "2026-09-03T10:00:00Z", 100)
    use(warehouse, "2026-09-20T10:00:10Z", 50, tenant="beta")
    use(warehouse, "2026-10-03T10:00:00Z", 10)
    finish(warehouse)
    closed(warehouse, "2026-09")
    return warehouse


def test_lines_of_a_closed_month_are_there_and_no_draft(month: Warehouse) -> None:
    money = {(row["tenant"], row["side"]): row["money"] for row in month.query(TOTALS)}
    assert money == {
        ("acme", "cost"): Decimal(215), ("acme", "revenue"): Decimal(500),
        ("beta", "cost"): Decimal("107.5"), ("beta", "revenue"): Decimal(250),
    }  # fmt: skip


def test_each_value_is_the_frozen_one(month: Warehouse) -> None:
    reader = operator_reader(month)
    step = closed(month, "2026-10")
    records = [line_record(line) for line in closed_lines(reader, step)]
    rows = month.query("SELECT * FROM bill_lines WHERE period = '2026-10' ORDER BY line")
    for record, row in zip(records, rows, strict=True):
        for name in record.keys() - {"line_start", "line_end"}:
            value = record[name]
            as_number = isinstance(row[name], (Decimal, int)) and value is not None
            assert (Decimal(value) if as_number else value) == row[name], name
    assert {row["time_zone"] for row in rows} == {"UTC"}


def test_a_reopened_month_is_not_there_until_it_is_closed_again(month: Warehouse) -> None:
    reopen(operator_reader(month), "2026-09", reason="wrong book", actor="ann@host", at_ms=CLOSED_AT_MS)
    assert month.query(TOTALS) == []
    book(month, TOKENS_BOOK)
    closed(month, "2026-09")
    assert {row["side"] for row in month.query(TOTALS)} == {"cost"}
    assert {row["closing"] for row in month.query("SELECT closing FROM bill_lines")} == {3}


def test_lines_that_an_interrupted_closing_left_are_not_there(month: Warehouse) -> None:
    month.command("INSERT INTO closed_lines (period, step, line) VALUES ('2026-09', 1, 99), ('2026-09', 2, 1)")
    assert month.query("SELECT max(line) AS last, max(closing) AS closing FROM bill_lines") == [
        {"last": 6, "closing": 1}
    ]


def test_corrections_are_lines_of_the_month_that_has_them(month: Warehouse) -> None:
    use(month, "2026-09-03T10:00:00Z", 101, version=2)
    closed(month, "2026-10")
    mending = (
        "SELECT sum(amount) AS money FROM bill_lines WHERE corrects != '' AND side = 'cost' AND period = '2026-10'"
    )
    assert month.query(mending) == [{"money": Decimal("2.15")}]
    frozen = "SELECT line_id FROM bill_lines WHERE period = '2026-09'"
    strays = f"SELECT count() AS n FROM bill_lines WHERE corrects != '' AND corrects NOT IN ({frozen})"
    assert month.query(strays) == [{"n": 0}]


def test_a_tenant_gets_its_own_lines_of_the_view_and_of_the_table(month: Warehouse) -> None:
    for table in ("bill_lines", "closed_lines"):
        sql = f"SELECT DISTINCT tenant FROM {table} ORDER BY tenant"
        assert read_only(operator_reader(month), sql)[1] == [("acme",), ("beta",)]
        assert read_only(tenant_reader(month, "beta"), sql)[1] == [("beta",)]


def test_margin_by_model_is_what_customers_pay_minus_what_the_model_costs(month: Warehouse) -> None:
    (row,) = month.query(saved_question("margin_by_model").sql)
    assert [str(row[name]) for name in ("revenue", "cost", "margin", "margin_percent")] == [
        "750.000", "322.500", "427.500", "57.0",
    ]  # fmt: skip


def test_a_margin_without_a_revenue_rate_is_unknown_and_not_a_loss(month: Warehouse) -> None:
    book(month, TOKENS_BOOK)
    closed(month, "2026-10")
    row = month.query(saved_question("margin_by_model").sql)[-1]
    assert (row["period"], row["revenue"], row["cost"], row["margin"]) == ("2026-10", None, Decimal("21.5"), None)


def test_a_margin_with_a_line_of_unknown_amount_is_unknown(warehouse: Warehouse) -> None:
    book(warehouse, TOKENS_BOOK + REVENUE)
    use(warehouse, "2026-09-03T10:00:00Z", 100)
    finish(warehouse)
    closed(warehouse, "2026-09", accept_open=True)
    rows = {row["currency"]: row for row in warehouse.query(saved_question("margin_by_model").sql)}
    assert rows[""]["cost"] is None
    assert rows["EUR"]["margin"] == Decimal(300)
