"""Deletes clusters from the tables, before a simulated fleet or a recording is stored again on a new embedded log.

Never part of the stream job.
"""

from __future__ import annotations

from collections.abc import Sequence

from warehouse.client import Warehouse

_TABLES = ("gpu_energy", "token_usage", "request_energy", "ledger", "ledger_hour", "ledger_day")


def purge_clusters(warehouse: Warehouse, clusters: Sequence[str]) -> int:
    """Delete these clusters' facts and ledger, and wait for the end. Returns how many stored rows there were.

    A partition that holds no other cluster is dropped, which costs nothing; only shared ones are rewritten.
    """
    purged = 0
    for table in _TABLES:
        for partition in warehouse.ask(
            "ledger/partitions_to_purge", fragments={"table": table}, clusters=list(clusters)
        ):
            purged += partition["ours"]
            # The id is ClickHouse's own (digits, from toYYYYMMDD or toYYYYMM), no input from outside.
            if partition["others"]:
                warehouse.command(
                    f"ALTER TABLE {table} DELETE IN PARTITION ID '{partition['id']}' "
                    "WHERE cluster IN {clusters:Array(String)} SETTINGS mutations_sync = 2",
                    clusters=list(clusters),
                )
            else:
                warehouse.command(f"ALTER TABLE {table} DROP PARTITION ID '{partition['id']}'")
    return purged
