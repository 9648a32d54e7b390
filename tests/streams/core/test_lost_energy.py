"""A microjoule or token that a fault of the core loses, or moves to another hardware type, ends the step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from contracts.errors import LedgerError
from contracts.events import Event
from contracts.joined_batches import PowerColumns, TokenColumns
from streams.core import windows
from streams.core.attribution.facts import Energy, Facts, Tokens
from streams.core.attribution.grouping import GroupKeys
from streams.core.attribution.ledger_rows import LedgerRows, assert_balanced, ledger_rows_of
from streams.core.attribution.policy import Policy
from streams.core.attribution.split import HardwareEnergy, energy_by_hardware, split_energy_over_tenants, sum_work
from tests.contracts.batches import POWER, TOKENS


@pytest.mark.parametrize(
    ("batch", "columns", "spread"),
    [(POWER, PowerColumns, "spread_intervals"), (TOKENS, TokenColumns, "spread_requests")],
)
def test_windows_that_lose_a_part_of_an_event_are_refused(
    monkeypatch: pytest.MonkeyPatch, batch: Any, columns: Any, spread: str
) -> None:
    real = getattr(windows, spread)

    def lossy(*arguments: Any) -> Any:
        row, window, parts = real(*arguments)
        first = parts[0].copy()
        first[0] -= 1
        return row, window, [first, *parts[1:]] if isinstance(parts, list) else np.stack([first, *parts[1:]])

    monkeypatch.setattr(windows, spread, lossy)
    with pytest.raises(LedgerError, match="windows lost a part"):
        windows.OpenWindows(10_000).add([Event("s", 1, 0, "c", "w", batch)], columns.of([batch]))


def split_of(*hardware_uj: int) -> tuple[HardwareEnergy, LedgerRows]:
    """Return one window of one workload without work, with an energy by hardware type, and its ledger rows."""
    n = len(hardware_uj)
    zeros = np.zeros(n, np.int64)
    energy = Energy(
        window_start=zeros, subject=zeros, hardware=np.arange(n), owner=zeros,
        energy_uj=np.array(hardware_uj, np.int64), covered_ms=zeros, method=zeros,
    )  # fmt: skip
    facts = Facts(
        subjects=[("c", "w")], hardwares=[f"H{i}" for i in range(n)], owners=[""], tenants=[], products=[],
        energy=energy, tokens=Tokens(),
    )  # fmt: skip
    keys, policy = GroupKeys.of(facts), Policy()
    by_hardware, work_rows = energy_by_hardware(facts, keys, policy), sum_work(facts, keys)
    split = split_energy_over_tenants(facts, by_hardware, work_rows, policy)
    return by_hardware, ledger_rows_of(facts, keys, by_hardware, work_rows, split, policy)


@pytest.mark.parametrize("change", [(-1, 0), (0, 1), (-1, 1)], ids=["lost", "invented", "moved to another type"])
def test_charges_that_differ_from_what_a_hardware_type_measured_are_refused(change: tuple[int, int]) -> None:
    energy, rows = split_of(700, 300)
    assert_balanced(energy, rows)
    energies = rows.energies.copy()
    energies[1] += np.array(change)
    with pytest.raises(LedgerError, match="attribution lost energy"):
        assert_balanced(energy, replace(rows, energies=energies))


def test_energy_that_is_charged_to_no_measured_type_is_refused() -> None:
    energy, rows = split_of(700, 300)
    with pytest.raises(LedgerError, match="attribution lost energy"):
        assert_balanced(energy, replace(rows, hardware=np.full(2, -1)))
