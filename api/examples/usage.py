"""Examples of metered usage and sessions."""

from __future__ import annotations

from decimal import Decimal

from api.examples.bills import OPERATION
from api.examples.common import AT, END, rows_response, token_counts
from api.serialization import plain, plain_rows, to_csv
from warehouse.billing.operation_cost import CostedSession
from warehouse.results import (
    SessionRow,
    UsageGroup,
)
from warehouse.usage.sessions import CurrencyAmount, MeterTotal, SessionStep

_USAGE = UsageGroup(
    meter="gpu_minutes",
    unit="min",
    quantity=Decimal("4320.5"),
    rows=72,
    simulated=False,
    tenant="acme",
    dimensions={"pod": "chat-0"},
)
_USAGE_ROWS = plain_rows([_USAGE], exclude={"cluster", "workload", "hour", "day", "week", "month"})
USAGE = rows_response(_USAGE_ROWS)
USAGE_CSV = to_csv(
    [{**_USAGE_ROWS[0], "dimensions.pod": "chat-0"}],
    ["tenant", "dimensions.pod", "meter", "unit", "quantity", "rows", "simulated"],
)

_SESSION = SessionRow(
    tenant="acme",
    session_id="s-1",
    first=AT,
    last=END,
    requests=3,
    failures=0,
    **token_counts(prompt_tokens=1_710, cached_tokens=342, completion_tokens=484),
    energy_uj=2_856_609_112,
    unmetered_tokens=0,
    usage_rows=4,
    simulated=False,
)
SESSIONS = rows_response(plain_rows([_SESSION]), note=None)
_CALLS = [MeterTotal("external_spend", "USD", Decimal("0.0125"), 1), MeterTotal("tool_calls", "call", Decimal(3), 3)]
_STEP = SessionStep(
    trace_id="t-1",
    step="",
    first=AT,
    last=END,
    requests=3,
    failures=0,
    **token_counts(prompt_tokens=1_710, cached_tokens=342, completion_tokens=484),
    energy_uj=2_856_609_112,
    unmetered_tokens=0,
    active_uj=1_683_238_793,
    idle_uj=1_173_370_319,
    cost=Decimal("0.000310"),
    gco2=Decimal("0.339718"),
    tool_calls=Decimal(3),
    spend=[CurrencyAmount("USD", Decimal("0.0125"))],
    meters=_CALLS,
)
SESSION = plain(
    CostedSession(
        operation=OPERATION,
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
