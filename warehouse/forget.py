"""Take whole clusters out of the tables: a simulated fleet before it is laid down anew, a recording before its replay
on a fresh embedded log. Never part of the stream job."""

from __future__ import annotations

from collections.abc import Sequence

from warehouse.client import Warehouse

_TABLES = ("gpu_energy", "token_usage", "request_energy", "ledger", "ledger_hour")


def forget_clusters(warehouse: Warehouse, clusters: Sequence[str]) -> int:
    """Delete these clusters' facts and ledger, finished when it returns. Returns how many ledger rows there were."""
    there = warehouse.query("SELECT count() AS n FROM ledger WHERE cluster IN {clusters:Array(String)}", clusters=list(clusters))
    if not there[0]["n"]:
        return 0
    for table in _TABLES:
        warehouse.command(
            f"ALTER TABLE {table} DELETE WHERE cluster IN {{clusters:Array(String)}} SETTINGS mutations_sync = 2",
            clusters=list(clusters),
        )
    return int(there[0]["n"])
