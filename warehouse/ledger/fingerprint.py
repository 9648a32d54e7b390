"""One hash for a ledger: two ledgers with the same hash say the same, row for row."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from warehouse.client import Warehouse
from warehouse.sql_files import question


def fingerprint(warehouse: Warehouse, start_ms: int, end_ms: int, clusters: Sequence[str]) -> str:
    """SHA-256 over the final rows of `[start_ms, end_ms)` of some clusters, in key order, tab-separated.

    What a row means counts, not who wrote it: provenance, version and revision are left out.
    """
    sql = question("fingerprint")
    rows = warehouse.arrow(sql, start_ms=start_ms, end_ms=end_ms, clusters=list(clusters))
    digest = hashlib.sha256()
    for batch in rows.to_batches(max_chunksize=10_000):
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            digest.update(("\t".join(map(str, row)) + "\n").encode())
    return digest.hexdigest()
