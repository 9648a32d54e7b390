"""Example of reconciliation."""

from __future__ import annotations

from api.examples.common import END, rows_response
from api.serialization import plain_rows
from contracts.units import MS_PER_HOUR, EpochMs, rfc3339
from warehouse.reconciliation.records import ComparedHour, ReconciliationFinding

_HOUR = ComparedHour(
    hour=EpochMs(END - 7 * MS_PER_HOUR),
    cluster="eu-1",
    workload="chat",
    tenant="",
    quantity="requests",
    first_source="ledger",
    second_source="servers",
    first_amount=1_746,
    second_amount=1_800,
)
_FINDING = ReconciliationFinding(
    until=END,
    cluster="eu-1",
    workload="chat",
    tenant="",
    kind="lost",
    source="ledger",
    quantities="requests",
    since=EpochMs(END - 24 * MS_PER_HOUR),
    first_source="ledger",
    second_source="servers",
    first_amount=31_428.0,
    second_amount=32_400.0,
    says="eu-1/chat: ledger lacks 3 % of what servers counts: lost (requests: ledger 31,428, servers 32,400)",
)
RECONCILIATION = rows_response(
    plain_rows([_HOUR]), until=rfc3339(END), run_at=rfc3339(EpochMs(END + 60_000)), comparisons=12,
    findings=plain_rows([_FINDING]),
)  # fmt: skip
