"""Times, counts of tokens and the envelope that the examples share."""

from __future__ import annotations

from typing import Any

from api.serialization import plain
from contracts.events import DIMENSIONS, TOKENS
from contracts.units import epoch_ms
from warehouse.periods import Period

AT = epoch_ms("2026-10-31T23:59:50Z")
END = epoch_ms("2026-11-01T00:00:00Z")
OCTOBER: dict[str, Any] = plain(Period(epoch_ms("2026-10-01T00:00:00Z"), END))


def token_counts(**counts: int) -> dict[str, Any]:
    """Return a count for every declared column of tokens, 0 for those that are not given."""
    return dict.fromkeys(TOKENS, 0) | counts


def dimension_values(**values: str) -> dict[str, Any]:
    """Return a text for every dimension of requests, "" for those that are not given."""
    return dict.fromkeys(DIMENSIONS, "") | values


def rows_response(rows: list[Any], period: dict[str, Any] = OCTOBER, **more: Any) -> dict[str, Any]:
    """Return a response with these rows and no further page."""
    return {"period": period, "simulated": False, **more, "rows": rows, "next": None}
