"""Durable tables: an insert is on the disk before it is acknowledged, rather than in the server's page cache only.

ClickHouse syncs inserts only if a table's settings say so. Offsets are committed after inserts are acknowledged, so
rows that a server loses with its power are not read again from the log. On one server, the promise "an acknowledged
window survives" needs durable tables. Replicas in other racks keep it without the syncs.
"""

from __future__ import annotations

from warehouse.client import Warehouse

SETTINGS = {
    "fsync_after_insert": 1,
    "fsync_part_directory": 1,
    # A merge replaces synced parts: its result must be synced before they are deleted.
    "min_rows_to_fsync_after_merge": 1,
    "min_compressed_bytes_to_fsync_after_merge": 1,
}
"""ClickHouse's settings of MergeTree tables. It always syncs the metadata of tables (`fsync_metadata`)."""


def set_durable(warehouse: Warehouse, durable: bool) -> list[str]:
    """Make every table sync inserts before it acknowledges them, or none. Returns the changed tables.

    Raises Unavailable.
    """
    changed = []
    for table in warehouse.ask("sink/durable_tables"):
        if (table["synced"] == 1) == durable:
            continue
        if durable:
            change = "MODIFY SETTING " + ", ".join(f"{name} = {value}" for name, value in SETTINGS.items())
        else:
            change = "RESET SETTING " + ", ".join(SETTINGS)
        warehouse.command(f"ALTER TABLE `{table['name']}` {change}")  # the name is from the server's own list
        changed.append(table["name"])
    return changed
