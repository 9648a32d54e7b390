"""Examples of windows, intervals, the fleet, requests and an explanation."""

from __future__ import annotations

from decimal import Decimal

from api.examples.bills import OPERATION
from api.examples.common import AT, END, dimension_values, rows_response, token_counts
from api.serialization import plain, plain_rows
from contracts.units import EpochMs, epoch_ms
from warehouse.billing.operation_cost import CostedReceipt
from warehouse.ledger.explained_charge import (
    AppliedFloor,
    AppliedPrice,
    AppliedWeights,
    ExplainedRow,
    Explanation,
    MeasuredEnergy,
    WorkShare,
)
from warehouse.ledger.receipts import ReceiptWindow
from warehouse.periods import Period
from warehouse.results import (
    FleetRow,
    GpuInterval,
    LatestRow,
    LedgerRow,
    RequestEnergyRow,
)

_LEDGER = LedgerRow(
    window_start=AT,
    window_ms=10_000,
    tenant="acme",
    cluster="eu-1",
    workload="chat",
    model="llama-70b",
    hardware="H100",
    energy_uj=2_856_609_112,
    active_uj=1_683_238_793,
    idle_uj=1_173_370_319,
    unallocated_uj=0,
    **token_counts(prompt_tokens=1_710, cached_tokens=342, completion_tokens=484),
    work=2_820_000,
    requests=3,
    failures=0,
    method="counter",
    weights_version=1,
    floor_version=7,
    revision=0,
    final=True,
    simulated=False,
    **dimension_values(application="support", feature="summary", endpoint="chat"),
)
_INTERVAL = GpuInterval(
    window_start=AT,
    window_ms=10_000,
    cluster="eu-1",
    workload="chat",
    node="n1",
    gpu_uuid="GPU-a",
    hardware="H100",
    owner="",
    energy_uj=2_094_875_573,
    covered_ms=10_000,
    busy_ms=7_000,
    method="counter",
    late=False,
    late_id=0,
    simulated=False,
)
LEDGER = rows_response(plain_rows([_LEDGER]))
INTERVALS = rows_response(plain_rows([_INTERVAL]), plain(Period(AT, END)))
FLEET = rows_response(
    plain_rows(
        [
            FleetRow(
                cluster="eu-1",
                node="n1",
                hardware="H100",
                gpus=2,
                energy_uj=3_405_391_696_005,
                gpu_seconds=14_400.0,
                mean_w=236.48553444479168,
                utilisation_ratio=0.7,
                idle_ratio=0.3805729606730377,
                unallocated_ratio=0.0,
                method="counter",
                simulated=False,
            ),
        ]
    )
)
_REQUEST = RequestEnergyRow(
    tenant="acme",
    cluster="eu-1",
    workload="chat",
    model="llama-70b",
    request_id="req-7f3a",
    session_id="s-1",
    trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
    **dimension_values(application="support", feature="summary", endpoint="chat"),
    status="ok",
    t_start=AT,
    t_end=epoch_ms("2026-10-31T23:59:58.412Z"),
    **token_counts(prompt_tokens=1_207, cached_tokens=241, completion_tokens=521),
    energy_uj=3_241_509_944,
    active_uj=2_053_256_224,
    idle_uj=1_188_253_720,
    windows=1,
    unmetered_windows=0,
    joules_per_token=1.875873810185185,
    simulated=False,
)
REQUESTS = rows_response(plain_rows([_REQUEST]), note=None)
RECEIPT = plain(
    CostedReceipt(
        operation=OPERATION,
        request=_REQUEST,
        kwh=Decimal("0.000900419429"),
        kwh_facility=Decimal("0.001125524286"),
        cost=Decimal("0.000352289102"),
        currency="USD",
        gco2=Decimal("0.385492067951"),
        method="counter",
        missing_prices=[],
        windows=[
            ReceiptWindow(
                window_start=AT,
                window_end=EpochMs(AT + 10_000),
                active_uj=2_053_256_224,
                idle_uj=1_188_253_720,
                charge_uj=7_210_455_968,
                share=0.4495568665265645,
                method="counter",
                revision=0,
                kwh=Decimal("0.000900419429"),
                kwh_facility=Decimal("0.001125524286"),
                cost=Decimal("0.000352289102"),
                currency="USD",
                gco2=Decimal("0.385492067951"),
                ledger_sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            ),
        ],
    )
)
LATEST = rows_response(
    plain_rows(
        [
            LatestRow(
                window_start=AT,
                window_ms=10_000,
                tenant="acme",
                final=False,
                energy_uj=7_210_455_968,
                active_uj=4_537_085_649,
                idle_uj=2_673_370_319,
                unallocated_uj=0,
                tokens=4_032,
                unmetered_tokens=0,
                requests=6,
                simulated=False,
            ),
        ]
    ),
    plain(Period(epoch_ms("2026-10-31T23:55:00Z"), END)),
)


def _price(kind: str, cluster: str, value: str, currency: str = "") -> AppliedPrice:
    return AppliedPrice(
        kind=kind,
        cluster=cluster,
        value=Decimal(value),
        currency=currency,
        valid_from=epoch_ms("2026-10-01"),
        valid_to=epoch_ms("2027-01-01"),
        source="contract 2026-17",
    )


EXPLAIN = plain(
    Explanation(
        tenant="acme",
        window_start=AT,
        window_end=END,
        energy_uj=2_856_609_112,
        cost=Decimal("0.000310457865"),
        currency="USD",
        gco2=Decimal("0.339718271132"),
        unmetered_tokens=0,
        simulated=False,
        parts=[
            ExplainedRow(
                row=_LEDGER,
                share=WorkShare(
                    work=2_820_000,
                    whole_work=4_326_000,
                    ratio=0.651872399445215,
                    active_uj=1_683_238_793,
                    whole_active_uj=2_582_159_936,
                    idle_uj=1_173_370_319,
                    whole_idle_uj=1_800_000_000,
                ),
                measured=MeasuredEnergy(4_382_159_936, 4_382_159_936, 20_000, 2, 2, [_INTERVAL]),
                floor=AppliedFloor(7, 90_000, 1_800_000_000, "idle run of 2026-09-12"),
                weights=AppliedWeights(1, 1_000, 0, 3_000, "default", 0),
                prices=[
                    _price("energy", "eu-1", "0.313000000", "USD"),
                    _price("pue", "*", "1.250000000"),
                    _price("carbon", "*", "342.500000000"),
                ],
                missing_prices=[],
                kwh=Decimal("0.000793502531"),
                kwh_facility=Decimal("0.000991878164"),
                cost=Decimal("0.000310457865"),
                gco2=Decimal("0.339718271132"),
            ),
        ],
    )
)
