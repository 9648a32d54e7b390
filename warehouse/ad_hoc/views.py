"""Views for analysts: their columns as the migrations declare them, with types and comments."""

from __future__ import annotations

import re
from functools import cache

from warehouse.migrate import load

TENANT_VIEWS = ("requests", "usage_hour", "energy_hour", "tokens_hour", "efficiency_day", "requests_final",
                "bill_lines")  # fmt: skip
"""Views whose rows belong to a tenant each."""
SHARED_VIEWS = ("price_steps",)
"""Views that every caller may read: of shared tables alone."""
_VIEW = re.compile(r"CREATE OR REPLACE VIEW (\w+)\s*(\(.*?\n\))\s*AS\b", re.DOTALL)


@cache
def declared_columns() -> dict[str, str]:
    """Return the list of columns of each view that declares one, in SQL; of several migrations, the last one's."""
    return {
        match[1]: match[2]
        for migration in load()
        for statement in migration.statements
        if (match := _VIEW.match(statement))
    }
