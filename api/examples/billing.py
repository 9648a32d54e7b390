"""Examples of chargeback, efficiency and balance."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from api.chargeback_rows import chargeback_columns, chargeback_csv_rows, hidden_fields
from api.examples.common import OCTOBER, rows_response, token_counts
from api.serialization import plain_rows, to_csv
from warehouse.chargeback.chargeback_queries import DIMENSIONS
from warehouse.results import (
    ChargebackRow,
)

_ROW = ChargebackRow(
    energy_uj=5_108_399_858_463,
    active_uj=3_452_124_501_022,
    idle_uj=1_656_275_357_441,
    unallocated_uj=0,
    tokens=2_367_236,
    **token_counts(prompt_tokens=1_914_620, cached_tokens=382_924, completion_tokens=452_616),
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


def _without(row: ChargebackRow, *names: str) -> list[dict[str, Any]]:
    return plain_rows([row], exclude=hidden_fields(names))


_BY_TENANT, _BY_HOUR = _without(_ROW, "tenant"), _without(_HOUR, "hour", "model")
CHARGEBACK = rows_response(_BY_TENANT, total=_without(_ROW)[0])
CHARGEBACK_CSV = to_csv(chargeback_csv_rows(_BY_TENANT, None), chargeback_columns(["tenant"]))
EFFICIENCY = rows_response(_BY_HOUR)
EFFICIENCY_CSV = to_csv(chargeback_csv_rows(_BY_HOUR, None), chargeback_columns(["hour", "model"]))

BALANCE = {
    "period": OCTOBER,
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
    "measured_ratio": 0.999,
    "counter_uj": 26_221_154_236_728_000,
    "integrated_uj": 0,
    "estimated_uj": 26_247_401_638_000,
    "counter_ms": 84_875_040_000,
    "integrated_ms": 0,
    "estimated_ms": 84_960_000,
    "uncovered_ms": 0,
    "gpus_with_estimates": 4,
    "gpus_unbound": 2,
    "nodes_silent": 0,
    "parts": {
        "gpu": {
            "measured_uj": 26_247_401_638_366_000,
            "active_uj": 18_896_025_465_737_000,
            "idle_uj": 6_652_368_000_000_000,
            "unallocated_uj": 699_008_172_629_000,
            "residual_uj": 0,
        }
    },
    "nodes_counted_twice": 0,
    "nodes_without_host": 0,
    "names_apart": [],
    "simulated": False,
}
