"""Saved questions give the figures of a ledger that is small enough to add up by hand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from contracts.errors import BadInput
from contracts.units import MS_PER_DAY, MS_PER_HOUR, UJ_PER_KWH
from tests.support.ledger_rows import HOUR, row, rows
from warehouse.ad_hoc.gate import judge
from warehouse.ad_hoc.saved_questions import saved_question, saved_questions
from warehouse.ad_hoc.server import engine_lines
from warehouse.client import Warehouse, connect
from warehouse.migrate import migrate
from warehouse.read_only_sql import read_only
from warehouse.reader import operator_reader, tenant_reader
from warehouse.reference_data.attribution_tables import seed_defaults
from warehouse.reference_data.prices import Price, put_prices
from warehouse.reference_data.tenants import Tenant, put_tenants
from warehouse.sink.sink import Sink

JANUARY, FEBRUARY = HOUR + 19 * MS_PER_DAY, HOUR + 31 * MS_PER_DAY + 5 * MS_PER_HOUR
"""Hours of 20 January and 1 February 2024, 12 days and 5 hours apart."""
KWH = UJ_PER_KWH
WINDOWS: list[dict[str, Any]] = [
    {
        "window_start": JANUARY, "tenant": "acme", "active_uj": 2 * KWH, "idle_uj": KWH, "prompt_tokens": 1000,
        "cached_tokens": 400, "completion_tokens": 300, "requests": 10, "failures": 1,
    },
    {
        "window_start": JANUARY, "tenant": "globex", "active_uj": KWH, "prompt_tokens": 100, "completion_tokens": 100,
        "requests": 5,
    },
    {
        "window_start": FEBRUARY, "tenant": "acme", "active_uj": 6 * KWH, "prompt_tokens": 1000,
        "completion_tokens": 500, "requests": 4,
    },
    {
        "window_start": FEBRUARY, "tenant": "globex", "method": 3, "hardware": "", "prompt_tokens": 50, "requests": 2,
    },
    {
        "window_start": FEBRUARY, "tenant": "__unallocated__", "cluster": "lab", "workload": "~n9", "model": "",
        "unallocated_uj": KWH,
    },
]  # fmt: skip
REQUESTS = [("r1", "ok", 4), ("r2", "error", 2), ("r3", "ok", 9)]
"""Id, status and joules of acme's stored requests."""
JAN, FEB = date(2024, 1, 1), date(2024, 2, 1)


@pytest.fixture(scope="module")
def ledger(chdb_dsn: str) -> Iterator[Warehouse]:
    """One kWh of `eu` costs 1 EUR and 200 gCO2eq; `lab` has no prices."""
    with connect(chdb_dsn, database="saved_questions") as warehouse:
        migrate(warehouse)
        seed_defaults(warehouse)
        sink = Sink(warehouse)
        sink.write("ledger", rows("ledger", *WINDOWS))
        sink.refresh_hours([JANUARY, FEBRUARY], ["eu", "lab"], ["chat", "~n9"])
        for name, status, joules in REQUESTS:
            request = row(
                "request_energy", request_id=name, status=status, active_uj=joules * 1_000_000, window_start=JANUARY
            )
            sink.write("request_energy", request)
        put_tenants(warehouse, [Tenant("acme", "search", "CC-1"), Tenant("globex", "chat", "CC-2")])
        values = {"energy": "0.5", "pue": "2", "carbon": "100"}
        put_prices(
            warehouse,
            [
                Price(kind, "eu", Decimal(value), currency="EUR" if kind == "energy" else "")  # type: ignore[arg-type]
                for kind, value in values.items()
            ],
        )
        yield warehouse
        warehouse.command("DROP DATABASE saved_questions")


ANSWERS: dict[str, list[tuple[Any, ...]]] = {
    "month_over_month": [
        (JAN, "acme", "EUR", Decimal("3.00"), None, Decimal("3.000"), 1300),
        (JAN, "globex", "EUR", Decimal("1.00"), None, Decimal("1.000"), 200),
        (FEB, "__unallocated__", "", None, None, Decimal("1.000"), 0),
        (FEB, "acme", "EUR", Decimal("6.00"), 100.0, Decimal("6.000"), 1500),
        (FEB, "globex", "EUR", None, None, Decimal("0.000"), 50),
    ],
    "idle_workloads": [("eu", "chat", "EUR", 1.0, 10.0, 1.0)],
    "joules_per_request": [("llama", 3, 4.0, 9.0, 5.0)],
    # 10 EUR over 900 completion tokens.
    "cost_per_output_token": [("llama", "EUR", 900, 11111.111111)],
    # January, acme: 600 computed and 3 x 300 of 1,500; globex: 100 and 300 of 400. February: 1,000 and 1,500 of 2,500.
    "joules_by_kind": [
        (
            "llama",
            round((3 * 600 / 1500 + 100 / 400 + 6 * 1000 / 2500) * 3.6e6 / 1700 * 1e6),
            0.0,
            round((3 * 900 / 1500 + 300 / 400 + 6 * 1500 / 2500) * 3.6e6 / 900 * 1e6),
        )
    ],
    "cost_centre_by_month": [
        (JAN, "CC-1", "EUR", Decimal("3.000000"), Decimal("3.000")),
        (JAN, "CC-2", "EUR", Decimal("1.000000"), Decimal("1.000")),
        (FEB, "", "", None, Decimal("1.000")),
        (FEB, "CC-1", "EUR", Decimal("6.000000"), Decimal("6.000")),
        (FEB, "CC-2", "EUR", None, Decimal("0.000")),
    ],
    "cache_hit_share": [("acme", "llama", 2000, 400, 20.0), ("globex", "llama", 150, 0, 0.0)],
    "failures": [("acme", "llama", 14, 1, 7.14, 1, 2.0)],
    "busiest_hours": [(5, 1, 1550.0, 7.0), (0, 1, 1500.0, 4.0)],
    "unpriced_energy": [(FEB, "lab", "carbon, energy, pue", Decimal("1.000000"), 1)],
    "unmetered_tokens": [("eu", "chat", "globex", 50, 2, 20.0)],
    "carbon_by_month": [
        (JAN, "eu", Decimal("0.800"), 100.0, 0),
        (FEB, "eu", Decimal("1.200"), 100.0, 0),
        (FEB, "lab", None, None, 0),
    ],
    "margin_by_model": [],  # No month is closed: tests/warehouse/billing/test_bill_lines_view.py has figures.
}


@pytest.mark.parametrize("name", [question.name for question in saved_questions()])
def test_a_saved_question_gives_the_figures_that_a_hand_adds_up(ledger: Warehouse, name: str) -> None:
    sql = saved_question(name).sql
    answer = [tuple(line.values()) for line in ledger.query(sql)]
    assert answer == ANSWERS[name]


@pytest.mark.parametrize("name", ANSWERS)
def test_a_saved_question_may_be_asked(ledger: Warehouse, name: str) -> None:
    with ledger.reader() as client:
        assert judge(saved_question(name).sql, ledger.database, lambda statement: engine_lines(client, statement))


def test_a_tenant_gets_its_own_rows_of_the_views(ledger: Warehouse) -> None:
    sql = "SELECT tenant, sum(cost) AS money FROM usage_hour WHERE cost > 0 GROUP BY tenant ORDER BY tenant"
    assert read_only(operator_reader(ledger), sql)[1] == [("acme", Decimal(9)), ("globex", Decimal(1))]
    assert read_only(tenant_reader(ledger, "globex"), sql)[1] == [("globex", Decimal(1))]


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(BadInput, match="did you mean idle_workloads"):
        saved_question("idle_workload")


def test_there_are_thirteen() -> None:
    assert len(saved_questions()) == len(ANSWERS) == 13
    assert all(question.meaning.endswith(".") for question in saved_questions())
