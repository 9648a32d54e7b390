"""Windows as rows of the warehouse: all four tables once they are final, the ledger alone before that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from contracts.rows import Column, Table, conform, keys
from streams.core.attribution.attribute import attribute
from streams.core.attribution.policy import Policy
from streams.core.request_pieces import with_energy
from streams.core.stored_keys import StoredKeys
from streams.core.window_snapshot import WindowSnapshot


def final_tables(
    snapshot: WindowSnapshot, policy: Policy, stored: StoredKeys, last: int, **provenance: int | str
) -> dict[str, Table]:
    """Return the rows of closed windows by table; `last` is the greatest window number.

    A key that was stored of them or of any earlier window, and is not among these rows, gets a `deleted` row.
    """
    attribution = attribute(snapshot.for_attribution(), policy)
    requests, token_row = snapshot.requests()
    requests = with_energy(requests, attribution, attribution.work_row[token_row], complete=True)
    columns: dict[str, Mapping[str, Column | int | str]] = {
        "gpu_energy": {**snapshot.gpu_energy(), "late_id": 0},
        "token_usage": {**snapshot.token_usage(), "late_id": 0},
        "request_energy": {**requests, "late_id": 0},
        "ledger": {**attribution.ledger, "revision": 0, "final": 1},
    }
    tables = {}
    for name, rows in columns.items():
        table = conform(name, {**rows, **provenance, "window_ms": snapshot.window_ms, "deleted": 0})
        tables[name] = stored.replace(name, table, stored.up_to(name, last), **provenance)
    return tables


def provisional_table(
    snapshot: WindowSnapshot, policy: Policy, stored: StoredKeys, numbers: Sequence[int], **provenance: int | str
) -> Table:
    """Return ledger rows of windows that are still open, by `numbers`, and note their keys as stored."""
    ledger = attribute(snapshot.for_attribution(), policy).ledger
    rows = {**ledger, **provenance, "window_ms": snapshot.window_ms, "revision": 0, "final": 0, "deleted": 0}
    table = stored.replace("ledger", conform("ledger", rows), numbers, **provenance)
    stored.add("ledger", keys("ledger", table))
    return table
