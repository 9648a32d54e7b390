"""Examples in the OpenAPI document, made from the same dataclasses as the answers, so that they cannot drift."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from api.anomaly_report import Episode, Withheld
from api.forecast_report import ForecastStep, ModelScore, MonthRow, SeriesForecast
from api.serialization import plain, plain_rows, to_csv
from contracts.units import epoch_ms
from warehouse.chargeback.chargeback_queries import DIMENSIONS
from warehouse.ledger.explanation import (
    AppliedFloor,
    AppliedPrice,
    AppliedWeights,
    ExplainedRow,
    Explanation,
    MeasuredEnergy,
    WorkShare,
)
from warehouse.periods import Period
from warehouse.results import (
    ChargebackRow,
    FleetRow,
    GpuInterval,
    LatestRow,
    LedgerRow,
    RequestEnergyRow,
    SessionRow,
    UsageGroup,
)
from warehouse.usage.sessions import CurrencyAmount, MeterTotal, Session, SessionStep

_AT = epoch_ms("2026-10-31T23:59:50Z")
_END = epoch_ms("2026-11-01T00:00:00Z")
_OCTOBER = plain(Period(epoch_ms("2026-10-01T00:00:00Z"), _END))

_ROW = ChargebackRow(
    energy_uj=5_108_399_858_463,
    active_uj=3_452_124_501_022,
    idle_uj=1_656_275_357_441,
    unallocated_uj=0,
    tokens=2_367_236,
    prompt_tokens=1_914_620,
    cached_tokens=382_924,
    completion_tokens=452_616,
    requests=3_420,
    failures=12,
    joules_per_token=2.1579596873581677,
    joules_per_output_token=11.28638815853063,
    kwh=Decimal("1.418999961"),
    kwh_facility=Decimal("1.773749951"),
    cost=Decimal("0.555184"),
    currency="USD",
    gco2=Decimal("607.509358"),
    method="counter",
    simulated=False,
    tenant="acme",
)
_HOUR = ChargebackRow(
    **{name: getattr(_ROW, name) for name in ChargebackRow.__dataclass_fields__ if name not in DIMENSIONS},
    hour="2026-10-31T23:00:00Z",
    model="llama-70b",
)


def _answer(rows: list[Any], period: dict[str, Any] = _OCTOBER, **more: Any) -> dict[str, Any]:
    return {"period": period, "simulated": False, **more, "rows": rows, "next": None}


def _without(row: ChargebackRow, *names: str) -> list[dict[str, Any]]:
    return plain_rows([row], exclude=set(DIMENSIONS) - set(names))


_BY_TENANT, _BY_HOUR = _without(_ROW, "tenant"), _without(_HOUR, "hour", "model")
CHARGEBACK = _answer(_BY_TENANT, total=_without(_ROW)[0])
EFFICIENCY = _answer(_BY_HOUR)

BALANCE = {
    "period": _OCTOBER,
    "ok": True,
    "windows": 8496,
    "measured_uj": 26_247_401_638_366_000,
    "active_uj": 18_896_025_465_737_000,
    "idle_uj": 6_652_368_000_000_000,
    "unallocated_uj": 699_008_172_629_000,
    "residual_uj": 0,
    "token_residual_tokens": 0,
    "hour_residual_uj": 0,
    "day_residual_uj": 0,
    "sequence_gaps": 0,
    "coverage_ratio": 1.0,
    "simulated": False,
}

_LEDGER = LedgerRow(
    window_start=_AT,
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
    prompt_tokens=1_710,
    cached_tokens=342,
    completion_tokens=484,
    work=2_820_000,
    requests=3,
    failures=0,
    method="counter",
    weights_version=1,
    floor_version=7,
    revision=0,
    final=True,
    simulated=False,
)
_INTERVAL = GpuInterval(
    window_start=_AT,
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
LEDGER = _answer(plain_rows([_LEDGER]))
INTERVALS = _answer(plain_rows([_INTERVAL]), plain(Period(_AT, _END)))
FLEET = _answer(
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
REQUESTS = _answer(
    plain_rows(
        [
            RequestEnergyRow(
                tenant="acme",
                cluster="eu-1",
                workload="chat",
                model="llama-70b",
                request_id="req-7f3a",
                session_id="s-1",
                trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
                status="ok",
                t_start=_AT,
                t_end=epoch_ms("2026-10-31T23:59:58.412Z"),
                prompt_tokens=1_207,
                cached_tokens=241,
                completion_tokens=521,
                energy_uj=3_241_509_944,
                active_uj=2_053_256_224,
                idle_uj=1_188_253_720,
                windows=1,
                joules_per_token=1.875873810185185,
                simulated=False,
            ),
        ]
    ),
    note=None,
)
LATEST = _answer(
    plain_rows(
        [
            LatestRow(
                window_start=_AT,
                window_ms=10_000,
                tenant="acme",
                final=False,
                energy_uj=7_210_455_968,
                active_uj=4_537_085_649,
                idle_uj=2_673_370_319,
                unallocated_uj=0,
                tokens=4_032,
                requests=6,
                simulated=False,
            ),
        ]
    ),
    plain(Period(epoch_ms("2026-10-31T23:55:00Z"), _END)),
)


def _price(kind: str, cluster: str, value: str, currency: str = "") -> AppliedPrice:
    return AppliedPrice(
        kind, cluster, Decimal(value), currency, epoch_ms("2026-10-01"), epoch_ms("2027-01-01"), "contract 2026-17"
    )


EXPLAIN = plain(
    Explanation(
        tenant="acme",
        window_start=_AT,
        window_end=_END,
        energy_uj=2_856_609_112,
        cost=Decimal("0.000310457865"),
        currency="USD",
        gco2=Decimal("0.339718271132"),
        simulated=False,
        parts=[
            ExplainedRow(
                row=_LEDGER,
                share=WorkShare(
                    2_820_000, 4_326_000, 0.651872399445215, 1_683_238_793, 2_582_159_936, 1_173_370_319, 1_800_000_000
                ),
                measured=MeasuredEnergy(4_382_159_936, 4_382_159_936, 20_000, 2, [_INTERVAL]),
                floor=AppliedFloor(7, 90_000, 1_800_000_000, "idle run of 2026-09-12"),
                weights=AppliedWeights(1, 1_000, 0, 3_000, "default"),
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

_FORECAST_STEP = ForecastStep(_END, 3.06, 3.04, 3.09, 3.01, 3.11)
_MONTH = MonthRow(_END, epoch_ms("2026-12-01"), 92.1, 90.4, 93.9, 89.2, 95.0, 0.0)
_FORECAST = SeriesForecast(
    key="",
    measure="cost",
    unit="USD",
    freq="day",
    model="ets",
    withheld="",
    history_steps=122,
    filled_steps=0,
    steps=[_FORECAST_STEP],
    this_month=_MONTH,
    next_month=None,
    month_withheld="",
    backtest=[
        ModelScore("seasonal_naive", 1.0, 0.05, 0.8, 0.94, ""),
        ModelScore("ets", 0.75, 0.02, 0.79, 0.95, ""),
    ],
    simulated=False,
)
FORECAST = {"simulated": False, "rows": plain_rows([_FORECAST]), "next": None}
_FLAT = {"key": "", "measure": "cost", "unit": "USD", **plain(_FORECAST_STEP)}
FORECAST_CSV = to_csv([_FLAT], list(_FLAT))

_EPISODES = plain_rows(
    [
        Episode(
            start=epoch_ms("2026-10-12"),
            end=epoch_ms("2026-10-14"),
            measure="joules_per_token",
            key="acme",
            kind="spike",
            direction="up",
            unit="J/token",
            expected=1.02,
            actual=1.71,
            excess=1.38,
            score=14.2,
            ongoing=False,
            reason="1.71 J/token instead of 1.02 over 2 days.",
            simulated=False,
        )
    ]
)
_TOO_SHORT = "history is too short: 3 known points, 21 needed"
ANOMALIES = {
    "simulated": False,
    "judged": 11,
    "withheld": plain_rows([Withheld("cost", "initech", _TOO_SHORT)]),
    "rows": _EPISODES,
    "next": None,
}

_USAGE = UsageGroup(
    meter="gpu_minutes",
    unit="min",
    quantity=Decimal("4320.5"),
    rows=72,
    simulated=False,
    tenant="acme",
    dimensions={"pod": "chat-0"},
)
_USAGE_ROWS = plain_rows([_USAGE], exclude={"cluster", "workload", "hour", "day", "month"})
USAGE = _answer(_USAGE_ROWS)
USAGE_CSV = to_csv(
    [{**_USAGE_ROWS[0], "dimensions.pod": "chat-0"}],
    ["tenant", "dimensions.pod", "meter", "unit", "quantity", "rows", "simulated"],
)

_SESSION = SessionRow(
    tenant="acme",
    session_id="s-1",
    first=_AT,
    last=_END,
    requests=3,
    failures=0,
    prompt_tokens=1_710,
    cached_tokens=342,
    completion_tokens=484,
    energy_uj=2_856_609_112,
    usage_rows=4,
    simulated=False,
)
SESSIONS = _answer(plain_rows([_SESSION]), note=None)
_CALLS = [MeterTotal("external_spend", "USD", Decimal("0.0125"), 1), MeterTotal("tool_calls", "call", Decimal(3), 3)]
_STEP = SessionStep(
    trace_id="t-1",
    step="",
    first=_AT,
    last=_END,
    requests=3,
    failures=0,
    prompt_tokens=1_710,
    cached_tokens=342,
    completion_tokens=484,
    energy_uj=2_856_609_112,
    active_uj=1_683_238_793,
    idle_uj=1_173_370_319,
    cost=Decimal("0.000310"),
    gco2=Decimal("0.339718"),
    tool_calls=Decimal(3),
    spend=[CurrencyAmount("USD", Decimal("0.0125"))],
    meters=_CALLS,
)
SESSION = plain(
    Session(
        **{name: getattr(_STEP, name) for name in SessionStep.__dataclass_fields__ if name not in ("trace_id", "step")},
        tenant="acme",
        session_id="s-1",
        kwh=Decimal("0.000793503"),
        currency="USD",
        total=[CurrencyAmount("USD", Decimal("0.01281"))],
        missing_prices=[],
        mixed_currencies=False,
        simulated=False,
        steps=[_STEP],
    )
)
