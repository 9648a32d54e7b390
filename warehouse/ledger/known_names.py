"""Filters that name something unknown: refused with the nearest name, because an empty answer would look right.

Only an empty answer is checked. A caller with tenants learns nothing of others: the names that it is compared with are
those of its own rows.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import TypeVar

from contracts.errors import BadQuery
from warehouse.cursors import Page, PageRequest
from warehouse.filters import Filter
from warehouse.reader import LedgerReader

MAX_NAMES = 20_000
"""Names that one is compared with; where there are more, an unknown one is not refused."""
_COLUMNS = {"tenant": "tenant", "cluster": "cluster", "workload": "workload", "model": "''"}
"""Columns that a filter may name, and the column of usage that has the same names."""
_OWN = "__"
"""Beginning of the tenants that the ledger makes: `__idle__`, `__unallocated__`."""

Row = TypeVar("Row")


def check_names(reader: LedgerReader, filter: Filter) -> None:
    """Raise BadQuery for a tenant, cluster, workload or model of the filter that the caller has never had.

    Call it for an answer without rows. A caller's own tenant is known, also before its first row.
    """
    filter = reader.narrow(filter)
    for column in _COLUMNS:
        name = getattr(filter, column)
        if not name or name.startswith(_OWN) or (column == "tenant" and reader.tenants is not None):
            continue
        names = names_of(reader, column, filter.tenant if reader.tenants else None)
        if names and name not in names and len(names) < MAX_NAMES:
            nearest = get_close_matches(name, names, 1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            raise BadQuery(column, name, f"the ledger has no {column} of this name{hint}")


def names_of(reader: LedgerReader, column: str, tenant: str | None = None) -> set[str]:
    """Return the names of a column that the reader's rows have had; for an operator also those of reference data.

    A column is one of a filter, or hardware. At most `MAX_NAMES` of the rows. `tenant` narrows the clusters, workloads
    and models of a tenant's reader.
    """
    scope = Filter() if column == "tenant" else Filter(tenant=tenant)
    fragments = {"column": column, "usage_column": _COLUMNS.get(column, "''")}
    names = {row["name"] for row in reader.ask("ledger/known_names", scope, fragments=fragments, limit=MAX_NAMES)}
    if reader.tenants is None:
        names |= {row["name"] for row in reader.ask("reference_data/edited_names") if row["kind"] == column}
    return names


def with_known_names(
    reader: LedgerReader, filter: Filter, read: Callable[[PageRequest], Page[Row]]
) -> Callable[[PageRequest], Page[Row]]:
    """Return a read of pages that raises BadQuery where it has no rows and the filter names something unknown."""

    def read_page(page_request: PageRequest) -> Page[Row]:
        page = read(page_request)
        if not page.rows and not page_request.cursor:
            check_names(reader, filter)
        return page

    return read_page
