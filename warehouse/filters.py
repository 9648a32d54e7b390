"""`Filter`: which rows a read returns, of those that the caller may see."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Filter:
    """Equality conditions on rows; None leaves a column free. A read that cannot apply one that is set raises BadQuery.

    A tenant here narrows what a `LedgerReader` may see; it never widens it.
    """

    tenant: str | None = None
    cluster: str | None = None
    workload: str | None = None
    model: str | None = None
    session_id: str | None = None
    meter: str | None = None
