"""Names of meters on wattlog.usage.v1 that questions know. Any other name is as good: it is summed like these.

Money is any meter whose unit is a currency: three capitals, such as USD (ISO 4217).
"""

from __future__ import annotations

import re

TOOL_CALLS = "tool_calls"
"""Calls of tools by an agent; unit `call`."""
EXTERNAL_SPEND = "external_spend"
"""Money paid to others (model APIs, search, ...); its unit is the currency."""

_CURRENCY = re.compile(r"[A-Z]{3}")


def is_currency(unit: str) -> bool:
    """Whether quantities of this unit are money."""
    return _CURRENCY.fullmatch(unit) is not None
