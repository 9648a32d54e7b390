"""Sums of energy are of 128 bits: those of 64 bits wrap at 9.2e18 uJ, 15 days of 10,000 GPUs, without a word."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.project.tree import texts
from warehouse.client import Warehouse
from warehouse.read_only_sql import read_only
from warehouse.reader import operator_reader

_SUM = re.compile(r"\bsum(?:If|OrNull)?\(")
_ENERGY = re.compile(r"\b[a-z_]+_uj\b")
_AMOUNT = re.compile(r"\b(?:[a-z_]+_uj|[a-z_]*tokens)\b")
_SQL = re.compile(r"SELECT\b[^\"`\n]*\bFROM\b[^\"`\n]*")
HUGE_UJ = 5 * 10**18
"""Two rows of it wrap 64 bits."""

BOUNDED = {
    "warehouse/audit/energy.sql": "one workload and window within; its outer sums are of 128 bits",
    "warehouse/audit/requests.sql": "one window's requests within; its outer sums are of 128 bits",
    "warehouse/chargeback/chargeback.sql": "sums of 128 bits within; its outer sums are of those",
    "warehouse/ledger/explain_energy.sql": "one window",
    "warehouse/ledger/explain_rows.sql": "one window",
    "warehouse/ledger/fleet.sql": "sums of 128 bits within; its outer sums are of those",
    "warehouse/ledger/fleet_groups.sql": "sums of 128 bits within; its outer sums are of those",
    "warehouse/ledger/fleet_models.sql": "sums of 128 bits within; its outer sums are of those",
    "warehouse/ledger/requests.sql": "one request",
    "warehouse/usage/session_energy.sql": "one session by hour",
    "warehouse/usage/sessions.sql": "its outer sums are of 128 bits",
    "warehouse/migrations/0001_ledger.sql": "the view of single requests",
    "warehouse/migrations/0005_days.sql": "one row of a day, which is stored as 64 bits",
    "warehouse/migrations/0009_dimensions.sql": "the view of single requests",
}
"""Files whose sums of 64 bits are bounded, with the reason."""


def _arguments(text: str) -> Iterator[str]:
    """Yield what each sum of a text adds up."""
    for match in _SUM.finditer(text):
        depth, end = 1, match.end()
        while depth and end < len(text):
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        yield text[match.end() : end - 1]


def _narrow(text: str, amount: re.Pattern[str]) -> list[str]:
    return [inside for inside in _arguments(text) if amount.search(inside) and "toInt128" not in inside]


QUESTIONS = {str(path): text for path, text in texts(".sql").items()}


def test_questions_add_energy_up_in_128_bits() -> None:
    assert {name for name, text in QUESTIONS.items() if _narrow(text, _ENERGY)} == BOUNDED.keys()


def _documented() -> list[tuple[str, str]]:
    """Return the questions in SQL that documents and the help of commands show: (file, SQL)."""
    pages = [
        (str(path), text)
        for path, text in texts(".md", ".py").items()
        if path.suffix == ".md" or path.parts[0] == "cli"
    ]
    return [(name, sql) for name, text in pages for sql in _SQL.findall(text)]


def test_documented_questions_add_amounts_up_in_128_bits() -> None:
    questions = _documented()
    assert len(questions) >= 3
    assert {name: _narrow(sql, _AMOUNT) for name, sql in questions if _narrow(sql, _AMOUNT)} == {}


@pytest.mark.parametrize("sql", [sql for _, sql in _documented() if "active_uj" in sql and " ledger " in sql])
def test_a_documented_sum_is_right_beyond_64_bits(warehouse: Warehouse, sql: str) -> None:
    warehouse.command(
        "INSERT INTO ledger (tenant, cluster, workload, hardware, window_start, window_ms, active_uj, final, version) "
        f"SELECT 'acme', 'eu', 'w', 'H100', fromUnixTimestamp64Milli(number * 10000, 'UTC'), 10000, {HUGE_UJ}, 1, 1 "
        "FROM numbers(3)"
    )
    answer = read_only(operator_reader(warehouse), sql, limit_rows=10, timeout_s=30)
    assert [list(row) for row in answer[1]] == [["acme", 3 * HUGE_UJ]]
