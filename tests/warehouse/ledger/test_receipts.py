"""Receipts of single requests: they sum to the ledger, and to bills, and can be checked."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from fractions import Fraction

import pytest

from contracts.errors import BadQuery
from contracts.units import UJ_PER_KWH, EpochMs
from tests.support import seeded_ledger as seed
from tests.support.ledger_rows import HOUR, rows
from warehouse.client import Warehouse
from warehouse.filters import Filter
from warehouse.ledger import ledger_queries
from warehouse.ledger.fingerprint import fingerprint
from warehouse.ledger.receipts import MAX_PIECES, receipt
from warehouse.periods import Period
from warehouse.reader import operator_reader, tenant_reader
from warehouse.reference_data.prices import Price, put_prices

WINDOW = Period(EpochMs(HOUR), EpochMs(HOUR + 10_000))
PRICES = [Price("energy", "*", Decimal("0.25"), currency="EUR"), Price("pue", "*", Decimal("1.2")),
          Price("carbon", "*", Decimal(300))]  # fmt: skip


def lay(warehouse: Warehouse, *pieces: dict[str, object], **charge: object) -> None:
    """Store pieces of requests, and a charge of as much energy for each tenant, model and window."""
    warehouse.insert("request_energy", rows("request_energy", *({"request_id": "r", **piece} for piece in pieces)))
    warehouse.insert("ledger", rows("ledger", *(
        {name: piece[name] for name in ("window_start", "tenant", "active_uj", "idle_uj") if name in piece} | charge
        for piece in pieces
    )))  # fmt: skip


def test_receipts_sum_to_the_charges_of_the_ledger(books: Warehouse) -> None:
    """In the seeded ledger one request bears all of a row of the ledger."""
    reader = operator_reader(books)
    page = ledger_queries.requests(reader, Period(seed.REAL_START_MS, seed.END_MS), Filter(cluster="eu-1"))
    assert page.rows
    for row in page.rows:
        one = receipt(reader, row.request_id, Filter(row.tenant, "eu-1", row.workload, row.model))
        assert one.request == row
        assert row.energy_uj == sum(window.charge_uj for window in one.windows)
        assert [window.share for window in one.windows] == [1.0] * row.windows
        assert one.cost == sum(window.cost or 0 for window in one.windows)


def test_receipts_of_a_window_sum_to_its_charge(warehouse: Warehouse) -> None:
    lay(warehouse, *({"request_id": f"r{n}", "active_uj": 10**6 + n, "idle_uj": n} for n in range(7)), deleted=1)
    energy_uj = {"active_uj": 7 * 10**6 + 21, "idle_uj": 21}
    warehouse.insert("ledger", rows("ledger", energy_uj, {"tenant": "__idle__", "idle_uj": 5}))
    receipts = [receipt(operator_reader(warehouse), f"r{n}") for n in range(7)]
    assert sum(one.request.energy_uj for one in receipts) == receipts[0].windows[0].charge_uj == sum(energy_uj.values())
    assert sum(one.windows[0].share or 0 for one in receipts) == pytest.approx(1)


def test_money_is_that_of_each_windows_prices(warehouse: Warehouse) -> None:
    lay(
        warehouse,
        {"active_uj": UJ_PER_KWH, "idle_uj": 3},
        {"window_start": HOUR + 10_000, "active_uj": 2 * UJ_PER_KWH},
    )
    new = Price("energy", "*", Decimal(1), HOUR + 10_000, currency="EUR")
    put_prices(warehouse, [Price("energy", "*", Decimal("0.25"), 0, HOUR + 10_000, "EUR"), new, *PRICES[1:]])
    one = receipt(operator_reader(warehouse), "r")
    exact = [Fraction(12, 10) * Fraction(1, 4) * Fraction(UJ_PER_KWH + 3, UJ_PER_KWH), Fraction(12, 10) * 2]
    for window, cost in zip(one.windows, exact, strict=True):
        assert abs(Fraction(window.cost or 0) - cost) <= Fraction(1, 2 * 10**12)
    assert one.cost == (one.windows[0].cost or 0) + (one.windows[1].cost or 0)
    assert (one.currency, one.method, one.missing_prices) == ("EUR", "counter", [])
    assert [window.share for window in one.windows] == [1, 1]


def test_a_share_is_of_the_tenants_charge_for_the_model(warehouse: Warehouse) -> None:
    warehouse.insert("request_energy", rows(
        "request_energy", {"request_id": "r", "active_uj": 25}, {"request_id": "s", "active_uj": 75}
    ))  # fmt: skip
    charge = {"active_uj": 100}
    warehouse.insert("ledger", rows(
        "ledger", charge, {**charge, "tenant": "globex"}, {**charge, "model": "other"}, {**charge, "hardware": "B200"}
    ))  # fmt: skip
    (window,) = receipt(operator_reader(warehouse), "r").windows
    assert (window.charge_uj, window.share) == (200, 0.125)


def test_the_hash_is_over_the_tenants_rows_as_that_of_a_ledger(warehouse: Warehouse) -> None:
    lay(warehouse, {"active_uj": 25}, revision=3)
    (window,) = receipt(operator_reader(warehouse), "r").windows
    assert window.ledger_sha256 == fingerprint(warehouse, WINDOW, ["eu"])
    assert window.ledger_sha256 != hashlib.sha256().hexdigest()
    assert window.revision == 3
    lay(warehouse, {"tenant": "globex", "active_uj": 7})
    (same,) = receipt(operator_reader(warehouse), "r", Filter(tenant="acme")).windows
    assert same.ledger_sha256 == window.ledger_sha256
    warehouse.insert("ledger", rows("ledger", {"active_uj": 26, "version": (1 << 62) + 1}))
    (changed,) = receipt(operator_reader(warehouse), "r", Filter(tenant="acme")).windows
    assert changed.ledger_sha256 != window.ledger_sha256


def test_a_missing_price_is_named_and_no_amount_is_0(warehouse: Warehouse) -> None:
    lay(warehouse, {"active_uj": 25})
    put_prices(warehouse, PRICES[1:2])
    one = receipt(operator_reader(warehouse), "r")
    assert (one.cost, one.gco2) == (None, None)
    assert one.kwh_facility is not None
    assert [(price.kind, price.cluster) for price in one.missing_prices] == [("carbon", "eu"), ("energy", "eu")]


def test_amounts_are_unknown_without_a_measurement(warehouse: Warehouse) -> None:
    lay(warehouse, {"active_uj": 0, "prompt_tokens": 9}, method=3, hardware="")
    put_prices(warehouse, PRICES)
    one = receipt(operator_reader(warehouse), "r")
    assert (one.kwh, one.cost, one.gco2, one.method, one.request.joules_per_token) == (
        None,
        None,
        None,
        "unmetered",
        None,
    )
    assert (one.request.unmetered_windows, one.windows[0].share) == (1, None)


def test_a_tenant_reads_its_own_receipts_only(warehouse: Warehouse) -> None:
    lay(warehouse, {"active_uj": 25}, {"tenant": "globex", "active_uj": 7})
    assert receipt(tenant_reader(warehouse, "globex"), "r").request.energy_uj == 7
    for reader, id_ in ((tenant_reader(warehouse, "initech"), "r"), (operator_reader(warehouse), "none")):
        with pytest.raises(BadQuery, match="no such request is stored"):
            receipt(reader, id_)


def test_an_id_of_several_requests_is_refused_with_their_differences(warehouse: Warehouse) -> None:
    lay(warehouse, {"active_uj": 25}, {"tenant": "globex", "model": "other", "active_uj": 7})
    with pytest.raises(BadQuery, match="give tenant and model"):
        receipt(operator_reader(warehouse), "r")
    lay(warehouse, {"active_uj": 25, "t_end": HOUR + 700})
    with pytest.raises(BadQuery, match="several requests of one tenant"):
        receipt(operator_reader(warehouse), "r", Filter(tenant="acme"))


@pytest.mark.slow
def test_an_id_with_too_many_pieces_is_refused(warehouse: Warehouse) -> None:
    lay(warehouse, *({"window_start": HOUR + n * 10_000} for n in range(MAX_PIECES + 1)))
    with pytest.raises(BadQuery, match=str(MAX_PIECES)):
        receipt(operator_reader(warehouse), "r")
