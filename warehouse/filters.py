"""`Filter`: which rows a read returns, of those that the caller may see."""

from __future__ import annotations

from dataclasses import dataclass

from contracts.boundary import Boundary


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions on rows; None leaves a column free. A read that cannot apply one that is set raises BadQuery.

    All are equalities but `boundary`, which includes what is within it; None is all that is measured.
    A tenant here narrows what a `LedgerReader` may see; it never widens it. `among` is the reader's own: it sets the
    tenants whose rows it may see, none for all.
    """

    tenant: str | None = None
    cluster: str | None = None
    workload: str | None = None
    model: str | None = None
    session_id: str | None = None
    meter: str | None = None
    boundary: Boundary | None = None
    among: tuple[str, ...] = ()
