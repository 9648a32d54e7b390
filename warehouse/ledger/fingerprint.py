"""One hash for a ledger. Two ledgers with the same hash hold the same rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

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
        for row in batch.to_pylist():
            digest.update(row_bytes(row))
    return digest.hexdigest()


def row_bytes(row: Mapping[str, Any]) -> bytes:
    """Return a ledger row, with the columns of fingerprint.sql, as the bytes that are hashed."""
    always = (str(value) for name, value in row.items() if name not in _OPTIONAL)
    more = (f"{name}={row[name]}" for name in _OPTIONAL if row[name])
    return ("\t".join((*always, *more)) + "\n").encode()
