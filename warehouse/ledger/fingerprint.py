"""One hash for a ledger. Two ledgers with the same hash hold the same rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from warehouse.client import Warehouse
from warehouse.periods import Period


def fingerprint(warehouse: Warehouse, period: Period, clusters: Sequence[str]) -> str:
    """Return the SHA-256 over the final rows of some clusters in a period, in key order, tab-separated.

    Provenance, version and revision are left out: the hash is over what a row says, not over who wrote it.
    """
    rows = warehouse.ask_arrow("ledger/fingerprint", start_ms=period.start, end_ms=period.end, clusters=list(clusters))
    digest = hashlib.sha256()
    for batch in rows.to_batches(max_chunksize=10_000):
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            digest.update(("\t".join(map(str, row)) + "\n").encode())
    return digest.hexdigest()
