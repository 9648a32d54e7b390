"""Days, weeks and months of a period's time zone, as SQL: rows are in the step whose start is the last before them.

The steps come from Python's zones, so that every engine groups alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from contracts.errors import BadQuery
from contracts.time_zones import days, months, weeks, zone_of
from warehouse.periods import Period

_STEPS = {"day": days, "week": weeks, "month": months}
STEPS = tuple(_STEPS)
"""Names of the steps."""
MAX_STEPS = 10_000
"""Days, weeks or months of one answer: 27 years of days."""


def step_sql(name: str, at: str, sums: str) -> tuple[str, str]:
    """Return the SQL of a step over rows with the time `at` (epoch ms), and of its name over the `sums` of those."""
    return (
        f"roundDown({at}, {{{name}_starts:Array(Int64)}}) AS of_{name}",
        f"{{{name}_names:Array(String)}}[indexOf({{{name}_starts:Array(Int64)}}, {sums}.of_{name})]",
    )


def step_parameters(names: Iterable[str], period: Period) -> dict[str, Any]:
    """Return the parameters of `step_sql`, for those of these names that are steps.

    Raises BadQuery for a period of more than MAX_STEPS.
    """
    parameters: dict[str, Any] = {}
    for name in sorted(set(names) & set(_STEPS)):
        steps = list(islice(_STEPS[name](zone_of(period.time_zone), period.start, period.end), MAX_STEPS + 1))
        if len(steps) > MAX_STEPS:
            raise BadQuery("period", str(period), f"more than {MAX_STEPS} {name}s: narrow it, or group more coarsely")
        parameters[f"{name}_starts"] = [step.start_ms for step in steps] or [0]
        parameters[f"{name}_names"] = [step.name for step in steps] or [""]
    return parameters


def step_starts(names: Iterable[str]) -> list[str]:
    """Return the SQL of the starts of the steps among these names, each an array of epoch ms."""
    return [f"{{{name}_starts:Array(Int64)}}" for name in sorted(set(names) & set(_STEPS))]
