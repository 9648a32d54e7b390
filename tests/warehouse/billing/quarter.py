"""A ledger of some kWh and tokens, for tests of billed periods."""

from __future__ import annotations

from decimal import Decimal

from contracts.units import UJ_PER_KWH, epoch_ms
from tests.support.ledger_rows import rows
from warehouse.billing.closing import close
from warehouse.billing.periods import PeriodStep
from warehouse.billing.price_books import put_book
from warehouse.client import Warehouse
from warehouse.periods import Period
from warehouse.reader import operator_reader
from warehouse.reference_data.prices import Price, put_prices
from warehouse.sink.sink import Sink

SEPTEMBER = Period(epoch_ms("2026-09-01"), epoch_ms("2026-10-01"))
OCTOBER = Period(epoch_ms("2026-10-01"), epoch_ms("2026-11-01"))
NOVEMBER = Period(epoch_ms("2026-11-01"), epoch_ms("2026-12-01"))
NAMES = {"2026-09": SEPTEMBER, "2026-10": OCTOBER, "2026-11": NOVEMBER}
CLOSED_AT_MS = epoch_ms("2026-12-01T09:00:00Z")

TOKENS_BOOK = 'currency = "EUR"\n[[rates]]\nname = "out"\nmeter = "output_tokens"\nprice = "2"\nper = 1_000_000\n'


def price(warehouse: Warehouse, tariff: str = "0.10", pue: str = "1.5", carbon: str = "400", **validity: int) -> None:
    """Store a tariff in EUR, a PUE and a carbon intensity for all clusters."""
    put_prices(warehouse, [
        Price("energy", "*", Decimal(tariff), currency="EUR", **validity),
        Price("pue", "*", Decimal(pue), **validity),
        Price("carbon", "*", Decimal(carbon), **validity),
    ])  # fmt: skip


def use(warehouse: Warehouse, at: str, kwh: int, version: int = 1, **values: object) -> None:
    """Store one final window with some kWh and as many million completion tokens, of acme unless it is said."""
    at_ms = epoch_ms(at)
    window = {
        "window_start": at_ms, "active_uj": kwh * UJ_PER_KWH, "completion_tokens": kwh * 1_000_000, "requests": 1,
        "version": (1 << 62) + version, **values,
    }  # fmt: skip
    warehouse.insert("ledger", rows("ledger", window))
    refresh(warehouse, at_ms, str(values.get("workload", "chat")))


def refresh(warehouse: Warehouse, at_ms: int, workload: str) -> None:
    """Compute the hour and the day of a window again."""
    Sink(warehouse).refresh_hours([at_ms], ["eu"], [workload])


def finish(warehouse: Warehouse) -> None:
    """Store a last window in December, so that the months before are final."""
    use(warehouse, "2026-12-01", 1)


def book(warehouse: Warehouse, text: str = TOKENS_BOOK) -> None:
    """Store a price book."""
    put_book(warehouse, text, "ann@host", epoch_ms("2026-08-01"))


def closed(warehouse: Warehouse, name: str, *, accept_open: bool = False) -> PeriodStep:
    """Close a month."""
    return close(
        operator_reader(warehouse), name, NAMES[name], currency="EUR", actor="ann@host", at_ms=CLOSED_AT_MS,
        audit_head="ab" * 32, accept_open=accept_open,
    )  # fmt: skip
