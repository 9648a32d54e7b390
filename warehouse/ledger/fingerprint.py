"""One hash for a ledger. Two ledgers with the same hash hold the same rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from contracts.events import DIMENSIONS, TOKEN_COLUMNS
from warehouse.client import Warehouse
from warehouse.periods import Period

_OPTIONAL = [*(c.name for c in TOKEN_COLUMNS if c.optional), *DIMENSIONS]


def fingerprint(warehouse: Warehouse, period: Period, clusters: Sequence[str]) -> str:
    """Return the SHA-256 over the final rows of some clusters in a period, in key order, tab-separated.

    Provenance, version and revision are left out: the hash is over what a row says, not over who wrote it. An optional
    count of tokens that is not 0, and a dimension that is not empty, stand at a row's end by name. So a ledger without
    any keeps the hash that it had before these columns.
    """
    rows = warehouse.ask_arrow("ledger/fingerprint", start_ms=period.start, end_ms=period.end, clusters=list(clusters))
    digest = hashlib.sha256()
    for batch in rows.to_batches(max_chunksize=10_000):
        columns = {name: batch.column(name).to_pylist() for name in batch.schema.names}
        optional = [(name, columns.pop(name)) for name in _OPTIONAL]
        for i, row in enumerate(zip(*columns.values(), strict=True)):
            more = [f"{name}={column[i]}" for name, column in optional if column[i]]
            digest.update(("\t".join([*map(str, row), *more]) + "\n").encode())
    return digest.hexdigest()
