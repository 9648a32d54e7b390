"""Example of latencies."""

from __future__ import annotations

from api.examples.common import rows_response
from api.latency_rows import flat_latency_row, latency_columns
from api.serialization import plain_rows, to_csv
from warehouse.latency.latency_queries import LatencyRow, Percentiles

_ROWS = plain_rows(
    [
        LatencyRow(
            group={"tenant": "acme", "model": "llama-70b"},
            time_to_first_token=Percentiles(requests=3_408, p50_ms=278.528, p95_ms=884.736, p99_ms=1_507.328),
            time_per_output_token=Percentiles(requests=3_311, p50_ms=21.504, p95_ms=34.816, p99_ms=47.104),
            request_duration=Percentiles(requests=3_408, p50_ms=3_014.656, p95_ms=9_961.472, p99_ms=15_204.352),
            queue_duration=Percentiles(requests=0, p50_ms=None, p95_ms=None, p99_ms=None),
            simulated=False,
        )
    ]
)
LATENCY = rows_response(_ROWS)
LATENCY_CSV = to_csv([flat_latency_row(row) for row in _ROWS], latency_columns(["tenant", "model"]))
