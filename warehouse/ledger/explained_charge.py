"""Types of an explained charge: an operator's, with every factor, and a tenant's, with its own figures only."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from warehouse.results import Amount, GpuInterval, LedgerRow, Time


@dataclass(frozen=True, slots=True)
class WorkShare:
    """active = whole_active x work / whole_work, to the microjoule (largest remainder). Work is in thousandths.

    Of a host it is the work of the GPUs beside it, where the row's tokens count.
    """

    work: int
    whole_work: int
    ratio: float | None
    active_uj: int
    whole_active_uj: int
    idle_uj: int
    whole_idle_uj: int


@dataclass(frozen=True, slots=True)
class MeasuredEnergy:
    """Energy that a workload's GPUs of one hardware type measured in the window, or its hosts, or meters at the wall.

    `energy_uj` equals `ledger_uj`, which the ledger charged for these devices to all tenants together. `intervals` are
    the first `SHOWN_INTERVALS` measurements. `gpus` is the number of `devices` that are GPUs: all, or 0.
    """

    energy_uj: int
    ledger_uj: int
    covered_ms: int
    gpus: int
    devices: int
    intervals: list[GpuInterval]


@dataclass(frozen=True, slots=True)
class AppliedFloor:
    """idle = min(energy, idle_mw x covered_ms): 1 mW for 1 ms is 1 µJ. Version 0: no floor was known."""

    version: int
    idle_mw: int | None
    idle_uj: int | None
    source: str


@dataclass(frozen=True, slots=True)
class AppliedWeights:
    """Work per token in thousandths, by kind of token, and per request-second, which counts where no request of the
    window had token work. Null where that version is no longer in the table."""

    version: int
    prompt_milli: int | None
    cached_milli: int | None
    completion_milli: int | None
    source: str
    request_second_milli: int | None


@dataclass(frozen=True, slots=True)
class AppliedPrice:
    """A tariff (kind energy, money per kWh), PUE or carbon intensity (gCO2eq per kWh), valid at the window's start."""

    kind: str
    cluster: str
    value: Amount
    currency: str
    valid_from: Time
    valid_to: Time
    source: str


@dataclass(frozen=True, slots=True)
class ExplainedRow:
    """One ledger row and everything that it was computed from.

    `cost` = kwh x PUE x tariff, to twelve places; null where a price is missing. All of these are null where the row's
    tokens have no measured energy (its method is `unmetered`).
    """

    row: LedgerRow
    share: WorkShare
    measured: MeasuredEnergy
    floor: AppliedFloor
    weights: AppliedWeights
    prices: list[AppliedPrice]
    missing_prices: list[str]
    kwh: Amount | None
    kwh_facility: Amount | None
    cost: Amount | None
    gco2: Amount | None


@dataclass(frozen=True, slots=True)
class WindowCharge:
    """A tenant's charge of one window.

    `unmetered_tokens` have no measured energy: `cost` is that of the others, and null where there are none.
    """

    tenant: str
    window_start: Time
    window_end: Time
    energy_uj: int
    cost: Amount | None
    currency: str
    gco2: Amount | None
    unmetered_tokens: int
    simulated: bool


@dataclass(frozen=True, slots=True)
class Explanation(WindowCharge):
    """A tenant's charge of one window. The parts sum to `energy_uj` and `cost`.

    `unmetered_tokens` have no measured energy: `cost` is that of the others, and null where there are none.
    """

    parts: list[ExplainedRow]


@dataclass(frozen=True, slots=True)
class OwnShare:
    """A tenant's work and energy, and its share of all work in the window.

    The ratio has four digits. All tenants' work and energy do not follow from it exactly, and less its own, neither do
    those of others.
    """

    work: int
    ratio: float | None
    active_uj: int
    idle_uj: int


@dataclass(frozen=True, slots=True)
class OwnRow:
    """One ledger row of a tenant, and what it was computed from, without what it shares with others.

    Measurements and idle floors are not here: with them, its own idle energy would tell all tenants' work.
    """

    row: LedgerRow
    share: OwnShare
    weights: AppliedWeights
    prices: list[AppliedPrice]
    missing_prices: list[str]
    kwh: Amount | None
    kwh_facility: Amount | None
    cost: Amount | None
    gco2: Amount | None


@dataclass(frozen=True, slots=True)
class OwnExplanation(WindowCharge):
    """A tenant's charge of one window as the tenant may see it; otherwise as `Explanation`."""

    parts: list[OwnRow]


def own_explanation(explanation: Explanation) -> OwnExplanation:
    """Return an explanation as its tenant may see it."""
    fields = {f.name: getattr(explanation, f.name) for f in dataclasses.fields(explanation)}
    return OwnExplanation(**fields | {"parts": [_own_row(part) for part in explanation.parts]})


def _own_row(part: ExplainedRow) -> OwnRow:
    fields = {f.name: getattr(part, f.name) for f in dataclasses.fields(OwnRow)}
    share = part.share
    ratio = None if share.ratio is None else float(f"{share.ratio:.4g}")
    return OwnRow(**fields | {"share": OwnShare(share.work, ratio, share.active_uj, share.idle_uj)})
