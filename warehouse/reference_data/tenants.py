"""Tenants' teams and cost centres, each from a time on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from contracts.errors import BadInput
from contracts.topics import check_name
from warehouse.client import Warehouse
from warehouse.reader import LedgerReader
from warehouse.reference_data.storage import put_versioned
from warehouse.reference_data.validity import END_MS, WINDOW_MS, check_whole_windows


@dataclass(frozen=True, slots=True)
class Tenant:
    """The team and the cost centre of a tenant, from `valid_from_ms` until its next row.

    `simulated` marks a tenant that exists in a simulation only.
    """

    tenant: str
    team: str = ""
    cost_centre: str = ""
    simulated: bool = False
    valid_from_ms: int = 0

    def check(self) -> None:
        """Raise BadInput for an impossible name, text or time."""
        check_name("tenant", self.tenant)
        for field in ("team", "cost_centre"):
            if text := getattr(self, field):
                check_name(field, text)
        if not 0 <= self.valid_from_ms < END_MS:
            raise BadInput("valid_from_ms", self.valid_from_ms, f"give 0 or more, below {END_MS}")


def put_tenants(warehouse: Warehouse, tenants: Sequence[Tenant], window_ms: int = WINDOW_MS) -> None:
    """Store teams and cost centres of tenants in one insert. A row with the name and start of a stored one replaces it.

    A row of a later start bills the time before it as before. `window_ms` is the length of the ledger's windows. Raises
    BadInput for an impossible name, or for a time inside a window.
    """
    for tenant in tenants:
        tenant.check()
        check_whole_windows("valid_from_ms", tenant.valid_from_ms, window_ms)
    put_versioned(warehouse, "tenants", tenants)


def list_tenants(reader: LedgerReader) -> list[Tenant]:
    """Return all rows of tenants, by name and start. Raises AccessDenied for any reader but an operator's."""
    return [Tenant(**{**row, "simulated": bool(row["simulated"])}) for row in reader.ask("reference_data/tenants")]
