"""Names of meters on wattlog.usage.v1 that queries treat specially. Any other meter is summed as well.

A meter is money if its unit is a currency: three capitals, such as USD (ISO 4217).
"""

from __future__ import annotations

import re

TOOL_CALLS = "tool_calls"
"""Tool calls of an agent; unit `call`."""
EXTERNAL_SPEND = "external_spend"
"""Money paid to others, such as model APIs and search; its unit is the currency."""

_CURRENCY = re.compile(r"[A-Z]{3}")


def is_currency(unit: str) -> bool:
    """True if quantities of this unit are money."""
    return _CURRENCY.fullmatch(unit) is not None
