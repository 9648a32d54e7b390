"""An explained charge multiplies to the ledger's own numbers."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction

import pytest

from contracts.errors import BadQuery
from contracts.units import UJ_PER_KWH
from tests.support import seeded_ledger as seed
from tests.support.ledger_rows import row
from warehouse.chargeback import chargeback_queries
from warehouse.client import Warehouse
from warehouse.filters import Filter
from warehouse.ledger import ledger_queries
from warehouse.ledger.explanation import explain
from warehouse.periods import Period
from warehouse.reader import LedgerReader, operator_reader, tenant_reader


def test_the_latest_window_is_the_newest_final_one_of_the_tenant(books: Warehouse) -> None:
    explanation = explain(operator_reader(books), "acme")
    assert (explanation.window_start, explanation.window_end) == (seed.END_MS - 10_000, seed.END_MS)


def test_days_and_hours_that_lag_behind_do_not_hide_the_newest_window(warehouse: Warehouse) -> None:
    seed.lay(warehouse)
    for table, column in (("ledger_day", "day"), ("ledger_hour", "hour")):
        (newest,) = warehouse.query(f"SELECT argMax(_partition_id, {column}) AS id FROM {table}")
        warehouse.command(f"ALTER TABLE {table} DROP PARTITION ID '{newest['id']}'")
        for tenant in ("acme", "globex"):
            assert explain(operator_reader(warehouse), tenant).window_start == seed.END_MS - 10_000


def test_an_instant_selects_its_window(books: Warehouse) -> None:
    assert explain(operator_reader(books), "acme", "2026-10-31T22:00:09.999Z").window_start == seed.REAL_START_MS
    assert explain(operator_reader(books), "initech", "2026-10-31T22:59:00Z").window_start == seed.REAL_START_MS


def test_the_parts_are_the_tenants_ledger_rows_and_sum_to_its_energy(books: Warehouse) -> None:
    explanation = explain(operator_reader(books), "acme")
    rows = ledger_queries.ledger_rows(
        operator_reader(books), Period(explanation.window_start, explanation.window_end), filter=Filter(tenant="acme")
    ).rows
    assert sorted(part.row.energy_uj for part in explanation.parts) == sorted(row.energy_uj for row in rows)
    assert explanation.energy_uj == sum(row.energy_uj for row in rows)


def test_active_energy_is_the_share_of_work_to_the_microjoule(books: Warehouse) -> None:
    for part in explain(operator_reader(books), "acme").parts:
        share = part.share
        assert abs(Fraction(share.whole_active_uj * share.work, share.whole_work) - share.active_uj) < 1
        assert abs(Fraction(share.whole_idle_uj * share.work, share.whole_work) - share.idle_uj) < 1


def test_the_charged_energy_is_the_measured_energy(books: Warehouse) -> None:
    for part in explain(operator_reader(books), "globex", "2026-10-31T22:30:00Z").parts:
        measured = part.measured
        assert measured.energy_uj == measured.ledger_uj == sum(i.energy_uj for i in measured.intervals)
        assert measured.gpus == len(measured.intervals)


def test_each_kind_of_evidence_is_queried_once_for_any_number_of_rows(
    books: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    ask = LedgerReader.ask
    monkeypatch.setattr(
        LedgerReader, "ask", lambda self, name, *of, **params: names.append(name) or ask(self, name, *of, **params)
    )
    assert len(explain(operator_reader(books), "acme").parts) == 3
    assert len(names) == len(set(names)) == 7


def test_an_owner_is_shown_to_itself_and_to_no_other_tenant(warehouse: Warehouse) -> None:
    seed.lay(warehouse)
    owned = {"cluster": "eu-1", "workload": "chat", "hardware": "H100", "gpu_uuid": "GPU-owned", "owner": "globex"}
    warehouse.insert("gpu_energy", row("gpu_energy", window_start=seed.END_MS - 10_000, **owned))
    for tenant, owner in (("acme", ""), ("globex", "globex")):
        intervals = [i for part in explain(operator_reader(warehouse), tenant).parts for i in part.measured.intervals]
        assert {i.owner for i in intervals if i.gpu_uuid == "GPU-owned"} == {owner}


def test_idle_energy_is_the_floor_times_covered_time(books: Warehouse) -> None:
    for part in explain(operator_reader(books), "acme").parts:
        assert part.floor.version == 7
        assert part.floor.idle_uj == part.share.whole_idle_uj


def test_the_weights_are_named_with_their_version(books: Warehouse) -> None:
    for part in explain(operator_reader(books), "acme").parts:
        w, row = part.weights, part.row
        assert w.version == row.weights_version == 1
        assert (w.prompt_milli, w.cached_milli, w.completion_milli) == (1000, 0, 3000)


def test_cost_multiplies_from_energy_pue_and_tariff(books: Warehouse) -> None:
    explanation = explain(operator_reader(books), "acme")
    for part in explanation.parts:
        value = {price.kind: Fraction(price.value) for price in part.prices}
        exact = Fraction(part.row.energy_uj, UJ_PER_KWH) * value["pue"] * value["energy"]
        assert abs(Fraction(part.cost or 0) - exact) <= Fraction(1, 2 * 10**12)
    bill = chargeback_queries.chargeback_total(
        operator_reader(books), Period(explanation.window_start, explanation.window_end), filter=Filter(tenant="acme")
    )
    assert abs((explanation.cost or Decimal(0)) - (bill.cost or Decimal(0))) <= Decimal("0.000001")


def test_the_tariff_is_the_clusters_own(books: Warehouse) -> None:
    tariff = {p.kind: (p.cluster, p.value) for p in explain(operator_reader(books), "acme").parts[0].prices}
    assert tariff["energy"] == ("eu-1", Decimal("0.313"))
    assert tariff["pue"] == ("*", Decimal("1.25"))


def test_a_missing_price_is_named(warehouse: Warehouse) -> None:
    seed.lay(warehouse, prices=False)
    explanation = explain(operator_reader(warehouse), "acme")
    assert explanation.cost is None
    assert explanation.parts[0].missing_prices == ["energy", "pue", "carbon"]


def test_simulated_energy_is_marked(books: Warehouse) -> None:
    assert explain(operator_reader(books), "initech").simulated
    assert not explain(operator_reader(books), "acme").simulated


@pytest.mark.parametrize(
    ("tenant", "window", "field"),
    [
        ("nobody", "latest", "tenant"),
        ("acme", "2020-01-01T00:00:00Z", "window"),
        ("acme", "soon", "window"),
        ("acme", "0001-01-01", "window"),
    ],
)
def test_an_impossible_explanation_is_refused_by_name(books: Warehouse, tenant: str, window: str, field: str) -> None:
    with pytest.raises(BadQuery) as refused:
        explain(operator_reader(books), tenant, window)
    assert refused.value.field == field


def test_a_tenant_sees_its_share_as_a_ratio_and_nothing_of_all_tenants(books: Warehouse) -> None:
    of_operator = explain(operator_reader(books), "acme", "2026-10-31T22:30:00Z")
    own = explain(tenant_reader(books, "acme"), None, "2026-10-31T22:30:00Z")
    assert [part.row for part in own.parts] == [part.row for part in of_operator.parts]
    assert (own.energy_uj, own.cost) == (of_operator.energy_uj, of_operator.cost)
    for all_figures, part in zip(of_operator.parts, own.parts, strict=True):
        assert (part.share.work, part.share.active_uj) == (all_figures.share.work, all_figures.share.active_uj)
        assert part.share.ratio == float(f"{all_figures.share.ratio:.4g}")


def test_no_figure_of_an_answer_to_a_tenant_is_that_of_all_tenants(books: Warehouse) -> None:
    window = "2026-10-31T22:30:00Z"
    own = set(integers(explain(tenant_reader(books, "globex"), None, window)))
    for part in explain(operator_reader(books), "globex", window).parts:
        share, measured = part.share, part.measured
        wholes = {share.whole_work, share.whole_active_uj, share.whole_idle_uj, measured.energy_uj, measured.ledger_uj}
        wholes |= {i.energy_uj for i in measured.intervals}
        mine = {share.work, share.active_uj, share.idle_uj, part.row.energy_uj, 0}
        assert wholes - mine
        assert not (wholes - mine) & own


def integers(value: object) -> Iterator[int]:
    if isinstance(value, int):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from integers(part)
    elif hasattr(value, "__dataclass_fields__"):
        for name in value.__dataclass_fields__:
            yield from integers(getattr(value, name))
