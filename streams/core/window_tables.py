"""What windows hold, as rows of the warehouse's tables: all four when they are final, the ledger's before that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from contracts.rows import Column, Table, conform, keys
from streams.core.attribution.attribute import attribute
from streams.core.attribution.policy import Policy
from streams.core.request_pieces import with_energy
from streams.core.stored_keys import StoredKeys
from streams.core.window_snapshot import WindowSnapshot


def final_tables(
    facts: WindowSnapshot, policy: Policy, stored: StoredKeys, last: int, **provenance: int | str
) -> dict[str, Table]:
    """Rows of windows that are closed, `last` being the greatest number; with a `deleted` row for each key that was
    stored of them, or of any before them, and is not among these."""
    attribution = attribute(facts.for_attribution(), policy)
    requests, payer = facts.requests()
    requests = with_energy(requests, attribution, attribution.work_row[payer], all_here=True)
    made: dict[str, Mapping[str, Column | int | str]] = {
        "gpu_energy": {**facts.gpu_energy(), "late_id": 0},
        "token_usage": {**facts.token_usage(), "late_id": 0},
        "request_energy": {**requests, "late_id": 0},
        "ledger": {**attribution.ledger, "revision": 0, "final": 1},
    }
    tables = {}
    for name, rows in made.items():
        table = conform(name, {**rows, **provenance, "window_ms": facts.window_ms, "deleted": 0})
        tables[name] = stored.replace(name, table, stored.up_to(name, last), **provenance)
    return tables


def provisional_table(
    facts: WindowSnapshot, policy: Policy, stored: StoredKeys, numbers: Sequence[int], **provenance: int | str
) -> Table:
    """Ledger rows of windows that are still open, by `numbers`; their keys are noted as stored."""
    ledger = attribute(facts.for_attribution(), policy).ledger
    rows = {**ledger, **provenance, "window_ms": facts.window_ms, "revision": 0, "final": 0, "deleted": 0}
    table = stored.replace("ledger", conform("ledger", rows), numbers, **provenance)
    stored.add("ledger", keys("ledger", table))
    return table
