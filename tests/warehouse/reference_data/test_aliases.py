"""A renamed cluster keeps one series: rows under its former name are read, and priced, under its name."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from contracts.errors import BadInput
from contracts.units import MS_PER_HOUR, UJ_PER_KWH, EpochMs, epoch_ms
from tests.support.ledger_rows import rows
from warehouse.chargeback.chargeback_queries import chargeback
from warehouse.client import Warehouse
from warehouse.filters import Filter
from warehouse.ledger.ledger_queries import fleet, ledger_rows
from warehouse.periods import Period
from warehouse.reader import LedgerReader, operator_reader
from warehouse.reference_data.clusters import Cluster, put_clusters
from warehouse.reference_data.editing import Edit, edit_of, removal_of, store_edit
from warehouse.reference_data.fields import Reading
from warehouse.reference_data.files import TextRow
from warehouse.reference_data.prices import Price, list_prices, put_prices
from warehouse.reference_data.tables import ALIASES, PRICES, ReferenceTable
from warehouse.sink.sink import Sink

START = epoch_ms("2026-10-01")
DAY = Period(EpochMs(START), EpochMs(START + 24 * MS_PER_HOUR))
RENAMED_MS = START + 12 * MS_PER_HOUR


def reader(warehouse: Warehouse) -> LedgerReader:
    return operator_reader(warehouse)


def put(warehouse: Warehouse, table: ReferenceTable, **texts: str) -> Edit:
    reading = Reading(ZoneInfo("UTC"), epoch_ms("2026-12-01"), "EUR")
    edit = edit_of(reader(warehouse), table, [TextRow("", texts)], reading, new_names=True)
    store_edit(reader(warehouse), edit)
    return edit


def _windows(cluster: str, start_ms: int, hours: int) -> list[dict[str, Any]]:
    return [
        {
            "window_start": start_ms + n * MS_PER_HOUR, "window_ms": 10_000, "cluster": cluster, "workload": "chat",
            "node": "n1", "gpu_uuid": "g1", "hardware": "H100", "model": "m", "tenant": "acme",
            "active_uj": UJ_PER_KWH, "energy_uj": UJ_PER_KWH, "log_id": "l", "version": 1,
        }
        for n in range(hours)
    ]  # fmt: skip


@pytest.fixture
def books(warehouse: Warehouse) -> Iterator[Warehouse]:
    """Twelve hours of 1 kWh under the name eu, then twelve under eu-west, with a price of each name."""
    both = _windows("eu", START, 12) + _windows("eu-west", RENAMED_MS, 12)
    for table in ("ledger", "gpu_energy"):
        columns = set(rows(table, {}))
        warehouse.insert(table, rows(table, *({k: v for k, v in row.items() if k in columns} for row in both)))
    hours = [START + n * MS_PER_HOUR for n in range(24)]
    Sink(warehouse).refresh_hours(hours, ["eu", "eu-west"], ["chat"])
    put_prices(warehouse, [
        Price("pue", "*", Decimal(1)), Price("carbon", "*", Decimal(100)),
        Price("energy", "eu", Decimal("0.1"), currency="EUR"),
        Price("energy", "eu-west", Decimal("0.2"), RENAMED_MS, currency="EUR"),
    ])  # fmt: skip
    yield warehouse


def bill(warehouse: Warehouse, **names: str) -> dict[str, tuple[Decimal | None, Decimal | None]]:
    page = chargeback(reader(warehouse), DAY, ["cluster"], Filter(**names))
    return {row.cluster or "": (row.kwh, row.cost) for row in page.rows}


def test_a_renamed_cluster_has_one_series_and_each_time_its_price(books: Warehouse) -> None:
    assert set(bill(books)) == {"eu", "eu-west"}
    edit = put(books, ALIASES, alias="eu", cluster="eu-west")
    assert edit.needs_consent == []
    assert bill(books) == {"eu-west": (Decimal(24), Decimal("3.6"))}


@pytest.mark.parametrize("name", ["eu", "eu-west"])
def test_a_filter_by_either_name_has_all_rows(name: str, books: Warehouse) -> None:
    put(books, ALIASES, alias="eu", cluster="eu-west")
    assert bill(books, cluster=name) == {"eu-west": (Decimal(24), Decimal("3.6"))}
    assert len(ledger_rows(reader(books), DAY, Filter(cluster=name)).rows) == 24
    (node,) = fleet(reader(books), DAY, Filter(cluster=name)).rows
    assert (node.cluster, node.gpus, node.energy_uj) == ("eu-west", 1, 24 * UJ_PER_KWH)


def test_a_later_price_of_the_cluster_applies_to_rows_of_both_names_and_is_listed_once(books: Warehouse) -> None:
    put(books, ALIASES, alias="eu", cluster="eu-west")
    edit = put(books, PRICES, kind="energy", cluster="eu-west", value="1", valid_from="2026-10-01T06:00:00Z")
    assert [(effect.hours, effect.names) for effect in edit.effects] == [(6, ("eu-west",))]
    assert bill(books) == {"eu-west": (Decimal(24), Decimal("0.6") + 6 + Decimal("2.4"))}
    assert {price.cluster for price in PRICES.stored(reader(books))} == {"*", "eu-west"}
    of = {
        name: [(p.value, p.valid_from_ms, p.valid_to_ms) for p in list_prices(books) if p.cluster == name]
        for name in ("eu", "eu-west")
    }
    assert of["eu"] == of["eu-west"]


def test_a_price_of_a_former_name_is_refused_with_the_name(books: Warehouse) -> None:
    put(books, ALIASES, alias="eu", cluster="eu-west")
    with pytest.raises(BadInput, match="a former name of eu-west"):
        put(books, PRICES, kind="energy", cluster="eu", value="1")


def test_a_removed_alias_leaves_two_clusters_with_their_prices(books: Warehouse) -> None:
    put(books, ALIASES, alias="eu", cluster="eu-west")
    reading = Reading(ZoneInfo("UTC"), epoch_ms("2026-12-01"))
    store_edit(reader(books), removal_of(reader(books), ALIASES, {"alias": "eu"}, reading))
    assert bill(books) == {"eu": (Decimal(12), Decimal("1.2")), "eu-west": (Decimal(12), Decimal("2.4"))}


@pytest.mark.parametrize(
    ("alias", "cluster", "reason"),
    [
        ("eu", "eu", "two names"),
        ("*", "eu", "two names"),
        ("eu", "older", "itself a former name, of eu-west"),
        ("eu-west", "new", r"former names itself \(older\)"),
        ("eu", "sim", "simulated"),
    ],
)
def test_a_chain_a_circle_and_another_mark_are_refused(alias: str, cluster: str, reason: str, books: Warehouse) -> None:
    put(books, ALIASES, alias="older", cluster="eu-west")
    put_clusters(books, [Cluster("sim", simulated=True)])
    with pytest.raises(BadInput, match=reason):
        put(books, ALIASES, alias=alias, cluster=cluster)


def test_two_clusters_that_are_billed_beside_each_other_are_refused(books: Warehouse) -> None:
    other = [row for day in range(2) for row in _windows("us", START + day * 12 * MS_PER_HOUR, 12)]
    other += _windows("us", START + 24 * MS_PER_HOUR, 13)
    more = _windows("eu-west", START + 24 * MS_PER_HOUR, 13)
    columns = set(rows("ledger", {}))
    books.insert("ledger", rows("ledger", *({k: v for k, v in row.items() if k in columns} for row in other + more)))
    Sink(books).refresh_hours([START + n * MS_PER_HOUR for n in range(37)], ["us", "eu-west"], ["chat"])
    with pytest.raises(BadInput, match=r"both have rows in 25 hours.*these are two clusters"):
        put(books, ALIASES, alias="us", cluster="eu-west")
