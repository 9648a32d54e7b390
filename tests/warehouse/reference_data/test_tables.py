"""The tables that people edit: prices, tenants, clusters, floors, weights."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from contracts.errors import BadInput
from tests.support.ledger_rows import HOUR
from warehouse.client import Warehouse
from warehouse.reader import operator_reader
from warehouse.reference_data.attribution_tables import (
    DEFAULT_WEIGHTS,
    IdleFloor,
    WorkWeights,
    attribution_tables,
    put_idle_floors,
    put_work_weights,
    seed_defaults,
)
from warehouse.reference_data.clusters import Cluster, list_clusters, put_clusters
from warehouse.reference_data.prices import Price, list_prices, put_prices, remove_price
from warehouse.reference_data.tenants import Tenant, list_tenants, put_tenants
from warehouse.reference_data.validity import END_MS

TARIFF = Price(
    kind="energy",
    cluster="eu",
    value=Decimal("0.123456789"),
    valid_from_ms=HOUR,
    valid_to_ms=END_MS,
    currency="EUR",
    source="contract 7",
)


def test_a_stored_price_is_read_to_the_last_digit(warehouse: Warehouse) -> None:
    prices = [
        Price("carbon", "*", Decimal("41.5")),
        TARIFF,
        Price("pue", "eu", Decimal("1.1"), HOUR + 10_000, HOUR + 20_000),
    ]
    put_prices(warehouse, prices)
    assert sorted(list_prices(warehouse), key=str) == sorted(prices, key=str)


def test_a_price_of_the_same_scope_and_start_replaces_the_old_one(warehouse: Warehouse) -> None:
    put_prices(warehouse, [TARIFF])
    cheaper = replace(TARIFF, value=Decimal("-0.01"))
    put_prices(warehouse, [cheaper])
    assert list_prices(warehouse) == [cheaper]


def test_prices_of_one_kind_and_cluster_may_not_overlap(warehouse: Warehouse) -> None:
    put_prices(warehouse, [TARIFF])
    with pytest.raises(BadInput, match=r"valid_from_ms.*contract|valid_from_ms.*put it again with an end"):
        put_prices(warehouse, [replace(TARIFF, valid_from_ms=HOUR + 10_000)])
    assert list_prices(warehouse) == [TARIFF]
    put_prices(warehouse, [replace(TARIFF, cluster="*"), Price("pue", "eu", Decimal(1))])


@pytest.mark.parametrize(
    ("price", "window_ms", "error"),
    [
        (replace(TARIFF, valid_from_ms=HOUR + 5_000), 10_000, "valid_from_ms.*00:00:05.*00:00:00.*or.*00:00:10"),
        (replace(TARIFF, valid_to_ms=HOUR + 1), 10_000, "valid_to_ms.*a window of 10000 ms"),
        (replace(TARIFF, valid_from_ms=HOUR + 900_000), 3_600_000, "give .*00:00:00.* or .*01:00:00"),
    ],
)
def test_a_price_that_changes_inside_a_window_is_refused_with_the_times_around_it(
    warehouse: Warehouse, price: Price, window_ms: int, error: str
) -> None:
    with pytest.raises(BadInput, match=error):
        put_prices(warehouse, [price], window_ms)
    assert list_prices(warehouse) == []


def test_a_tariff_is_changed_from_a_day_on_in_one_call(warehouse: Warehouse) -> None:
    put_prices(warehouse, [TARIFF])
    change = [
        replace(TARIFF, valid_to_ms=HOUR + 50_000),
        replace(TARIFF, valid_from_ms=HOUR + 50_000, value=Decimal(1)),
    ]
    put_prices(warehouse, change)
    assert list_prices(warehouse) == change


def test_a_price_can_be_removed_and_stored_again(warehouse: Warehouse) -> None:
    put_prices(warehouse, [TARIFF])
    remove_price(warehouse, TARIFF.kind, TARIFF.cluster, TARIFF.valid_from_ms)
    assert list_prices(warehouse) == []
    with pytest.raises(BadInput, match="no price"):
        remove_price(warehouse, TARIFF.kind, TARIFF.cluster, TARIFF.valid_from_ms)
    put_prices(warehouse, [TARIFF])
    assert list_prices(warehouse) == [TARIFF]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": "water"}, "kind"),
        ({"cluster": "a/b"}, "cluster"),
        ({"value": Decimal("0.0000000001")}, "value"),
        ({"value": Decimal("NaN")}, "value"),
        ({"value": Decimal("1e9")}, "value"),
        ({"kind": "pue", "currency": "", "value": Decimal("0.99")}, "value"),
        ({"kind": "carbon", "currency": "", "value": Decimal(-1)}, "value"),
        ({"currency": ""}, "currency"),
        ({"currency": "euro"}, "currency"),
        ({"kind": "pue", "value": Decimal(2)}, "currency"),
        ({"valid_to_ms": HOUR}, "valid_to_ms"),
        ({"valid_from_ms": -1}, "valid_to_ms"),
        ({"valid_to_ms": END_MS + 1}, "valid_to_ms"),
    ],
)
def test_an_invalid_price_is_refused_by_field(change: dict[str, object], field: str) -> None:
    with pytest.raises(BadInput) as caught:
        replace(TARIFF, **change).check()  # type: ignore[arg-type]
    assert caught.value.field == field


def test_a_row_of_a_tenant_replaces_that_of_the_same_start(warehouse: Warehouse) -> None:
    put_tenants(warehouse, [Tenant("a", "red"), Tenant("b", "blue", "cc-2", True)])
    put_tenants(warehouse, [Tenant("a", "green", "cc-1"), Tenant("a", "grey", "cc-3", valid_from_ms=HOUR)])
    assert list_tenants(operator_reader(warehouse)) == [
        Tenant("a", "green", "cc-1"),
        Tenant("a", "grey", "cc-3", valid_from_ms=HOUR),
        Tenant("b", "blue", "cc-2", True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("tenant", "field"),
    [
        (Tenant(""), "tenant"),
        (Tenant("a", valid_from_ms=-1), "valid_from_ms"),
        (Tenant("a", valid_from_ms=1), "window"),
    ],
)
def test_an_impossible_tenant_is_refused_by_field(warehouse: Warehouse, tenant: Tenant, field: str) -> None:
    with pytest.raises(BadInput, match=field):
        put_tenants(warehouse, [tenant])
    assert list_tenants(operator_reader(warehouse)) == []


def test_clusters_are_replaced_by_name(warehouse: Warehouse) -> None:
    put_clusters(warehouse, [Cluster("demo", True, "SIMULATED"), Cluster("eu")])
    put_clusters(warehouse, [Cluster("eu", False, "Paris")])
    assert list_clusters(warehouse) == [Cluster("demo", True, "SIMULATED"), Cluster("eu", False, "Paris")]


def test_defaults_are_stored_once_and_leave_edits_unchanged(warehouse: Warehouse) -> None:
    assert attribution_tables(warehouse) == ([], [])
    seed_defaults(warehouse)
    seed_defaults(warehouse)
    assert attribution_tables(warehouse) == ([], [DEFAULT_WEIGHTS])
    mine = replace(DEFAULT_WEIGHTS, completion_milli=2000, weights_version=2)
    put_work_weights(warehouse, [mine])
    seed_defaults(warehouse)
    assert attribution_tables(warehouse).weights == [mine]


def test_a_changed_floor_or_weight_needs_a_greater_version(warehouse: Warehouse) -> None:
    floor = IdleFloor("H200", 0, END_MS, 75_000, 3, "measured")
    put_idle_floors(warehouse, [floor])
    put_idle_floors(warehouse, [floor])
    with pytest.raises(BadInput, match="floor_version: 3: a changed row needs a new version: 4 or more"):
        put_idle_floors(warehouse, [replace(floor, idle_mw=80_000)])
    newer = replace(floor, idle_mw=80_000, valid_from_ms=HOUR, floor_version=4)
    put_idle_floors(warehouse, [newer, IdleFloor("*", 0, END_MS, 1, 1)])
    assert attribution_tables(warehouse).floors == [IdleFloor("*", 0, END_MS, 1, 1), floor, newer]
    weights = WorkWeights(
        model="llama",
        hardware="*",
        valid_from_ms=0,
        valid_to_ms=END_MS,
        prompt_milli=1,
        cached_milli=2,
        completion_milli=3,
        weights_version=1,
    )
    put_work_weights(warehouse, [weights])
    with pytest.raises(BadInput, match="weights_version"):
        put_work_weights(warehouse, [replace(weights, cached_milli=9)])
