"""Take whole clusters out of the tables: a simulated fleet before it is laid down anew, a recording before its replay
on a fresh embedded log. Never part of the stream job."""

from __future__ import annotations

from collections.abc import Sequence

from warehouse.client import Warehouse

_TABLES = ("gpu_energy", "token_usage", "request_energy", "ledger", "ledger_hour", "ledger_day")


def forget_clusters(warehouse: Warehouse, clusters: Sequence[str]) -> int:
    """Delete these clusters' facts and ledger, finished when it returns. Returns how many stored rows there were.

    A partition that holds nothing else is dropped whole, which costs nothing; only shared ones are rewritten.
    """
    forgotten = 0
    for table in _TABLES:
        found = warehouse.ask("ledger/partitions_to_purge", idents={"table": table}, clusters=list(clusters))
        for partition in found:
            forgotten += partition["ours"]
            # The id is ClickHouse's own (digits, from toYYYYMMDD or toYYYYMM), not anybody's input.
            if partition["others"]:
                warehouse.command(
                    f"ALTER TABLE {table} DELETE IN PARTITION ID '{partition['id']}' "
                    "WHERE cluster IN {clusters:Array(String)} SETTINGS mutations_sync = 2",
                    clusters=list(clusters),
                )
            else:
                warehouse.command(f"ALTER TABLE {table} DROP PARTITION ID '{partition['id']}'")
    return forgotten
