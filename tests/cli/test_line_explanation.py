"""A line of a bill explains itself down to the windows and what GPUs measured."""

from __future__ import annotations

import json

import pytest

from contracts.units import UJ_PER_KWH, epoch_ms
from tests.cli.test_bill import Run
from tests.cli.test_bill import ledger as ledger
from tests.cli.test_bill import run as run
from tests.support.ledger_rows import row
from tests.warehouse.billing.quarter import price, use
from warehouse.client import Warehouse

pytestmark = pytest.mark.slow
AT = "2026-09-03T10:00:00Z"


@pytest.fixture
def line_id(run: Run, ledger: Warehouse) -> str:
    """The electricity of acme in September, closed: 100 kWh in one window and 20 in another, measured by one GPU."""
    use(ledger, "2026-09-04T10:00:00Z", 20)
    measured = row("gpu_energy", window_start=epoch_ms(AT), energy_uj=100 * UJ_PER_KWH)
    ledger.insert("gpu_energy", measured)
    assert run("close", "2026-09").exit_code == 0
    return str(json.loads(run("bill", "2026-09", "--tenant", "acme", "--json").stdout)["lines"][0]["line_id"])


def test_a_line_is_traced_to_windows_and_gpus(run: Run, line_id: str) -> None:
    result = run("explain", line_id)
    assert result.exit_code == 0, result.stderr
    assert "180 kWh of the facility, by the tariffs of cluster eu" in result.stdout
    assert "2026-09-03T10:00:00.000Z" in result.stdout
    assert "15.000000000000" in result.stdout
    assert f"All of its windows: {120 * UJ_PER_KWH} uJ" in result.stdout
    assert "GPU" in result.stdout


def test_windows_of_a_closed_line_have_the_prices_of_the_closing(run: Run, ledger: Warehouse, line_id: str) -> None:
    price(ledger, "9.99")
    windows = json.loads(run("explain", line_id, "--json").stdout)["windows"]
    assert [(w["energy_uj"], w["tariff"], w["cost"]) for w in windows["largest"]] == [
        (100 * UJ_PER_KWH, "0.100000000", "15.000000000000"), (20 * UJ_PER_KWH, "0.100000000", "3.000000000000"),
    ]  # fmt: skip
    assert windows["windows"] == 2


def test_late_facts_are_named_beside_what_was_billed(run: Run, ledger: Warehouse, line_id: str) -> None:
    use(ledger, AT, 101, version=2)
    result = run("explain", line_id)
    assert f"The line has {120 * UJ_PER_KWH} uJ: facts came after the closing" in result.stderr
    assert f"All of its windows: {121 * UJ_PER_KWH} uJ" in result.stdout


def test_a_line_of_a_draft_is_explained_by_the_bill(run: Run) -> None:
    (line, _) = json.loads(run("bill", "2026-09", "--json").stdout)["lines"]
    assert run("explain", line["line_id"]).exit_code == 2
    document = json.loads(run("bill", "2026-09", "--line", line["line_id"], "--json").stdout)
    assert document["windows"]["energy_uj"] == line["energy_uj"]


def test_a_tenant_named_like_an_id_is_explained_as_a_tenant(run: Run, ledger: Warehouse) -> None:
    use(ledger, AT, 5, tenant="ab" * 10)
    assert "ab" * 10 in run("explain", "ab" * 10).stdout


def test_a_fee_has_no_windows(run: Run, ledger: Warehouse) -> None:
    from tests.warehouse.billing.quarter import book

    book(ledger, 'currency = "EUR"\n[[fees]]\nname = "platform"\nprice = "250"\nscope = { tenant = "acme" }\n')
    run("close", "2026-09")
    lines = json.loads(run("bill", "2026-09", "--tenant", "acme", "--json").stdout)["lines"]
    (fee,) = [line["line_id"] for line in lines if line["name"] == "platform"]
    assert json.loads(run("explain", fee, "--json").stdout)["windows"] is None
    assert "250 EUR" in run("explain", fee).stdout
