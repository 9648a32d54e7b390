"""The pandas example of docs/bi-tools.md runs, and gives the bill; the SQL of the other tools is understood."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import clickhouse_connect
import pytest

from tests.project.fences import blocks
from tests.project.tree import ROOT
from tests.support import seeded_ledger as seed
from warehouse.chargeback.chargeback_queries import chargeback
from warehouse.client import Warehouse
from warehouse.periods import Period
from warehouse.reader import operator_reader

PAGE = (ROOT / "docs" / "bi-tools.md").read_text("utf-8")
MACROS = {
    r"\$__timeInterval\((\w+)\)": r"toStartOfHour(\1)",
    r"\$__timeFilter\((\w+)\)": r"\1 >= '2026-10-31'",
    r"\{\{start\}\}": "'2026-10-01'",
    r"\{\{end\}\}": "'2026-11-01'",
}
"""What Grafana and Metabase put in place of their own words."""


def examples(language: str) -> list[str]:
    return [block.body for block in blocks(PAGE) if block.info[:1] == (language,)]


def test_the_pandas_example_gives_the_bill(books: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = examples("python")
    names: dict[str, Any] = {}
    with books.reader() as client:
        monkeypatch.setattr(clickhouse_connect, "get_client", lambda **_: client)
        exec(code, names)
    period = Period(seed.END_MS - 24 * 3_600_000, seed.END_MS)
    bills = {(row.tenant, row.currency): row.cost for row in chargeback(operator_reader(books), period).rows}
    answer = names["bill"].to_dict()
    assert answer.keys() == bills.keys()
    assert all(abs(answer[key] - (bills[key] or 0)) < Decimal("0.000001") for key in bills)


@pytest.mark.parametrize("sql", examples("sql"))
def test_the_examples_of_other_tools_are_understood(books: Warehouse, sql: str) -> None:
    for word, replacement in MACROS.items():
        sql = re.sub(word, replacement, sql)
    assert books.query(sql)
