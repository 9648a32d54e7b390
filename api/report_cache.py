"""Cached forecasts and anomaly reports: computed once per state of the ledger, caller's scope and options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import Request

from api.single_flight import SingleFlightCache
from forecasting.ledger_series import STEP_MS, Frequency
from warehouse.filters import Filter
from warehouse.periods import newest
from warehouse.reader import LedgerReader

Report = TypeVar("Report")


def cached_report(
    request: Request,
    report: Callable[..., Report],
    reader: LedgerReader,
    *,
    filter: Filter,
    freq: Frequency,
    **options: Any,
) -> Report:
    """Return `report(reader, filter=..., freq=..., **options)` from the cache, computed once per complete step.

    A step that is not over yet does not count. What late facts restate in older steps shows up after the next step.
    The caller's tenant is part of the key. Raises AccessDenied (403) for a filter on another tenant.
    """
    narrowed = reader.narrow(filter)
    cache: SingleFlightCache = request.app.state.report_cache
    step = (newest(reader).final_end or 0) // STEP_MS[freq]
    key = (report, step, narrowed, freq, *options.items())
    return cache.get(key, lambda: report(reader, filter=narrowed, freq=freq, **options))
