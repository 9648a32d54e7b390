"""Power loss: whether an insert is on the disk before it is acknowledged, or only in the server's page cache.

ClickHouse syncs nothing of an insert unless a table's settings say so. Offsets are committed after inserts are
acknowledged, so what a server without power forgets of them is not read again: on one server, durable tables are what
the promise "an acknowledged window survives" needs. Replicas in other racks do the same without the syncs.
"""

from __future__ import annotations

from warehouse.client import Warehouse

SETTINGS = {
    "fsync_after_insert": 1,
    "fsync_part_directory": 1,
    # A merge replaces parts that were synced: what it makes has to be as safe before they go.
    "min_rows_to_fsync_after_merge": 1,
    "min_compressed_bytes_to_fsync_after_merge": 1,
}
"""ClickHouse's settings of MergeTree tables. The metadata of tables it syncs anyway (`fsync_metadata`)."""


def set_durable(warehouse: Warehouse, durable: bool) -> list[str]:
    """Make every table sync what is inserted before it answers, or none. Returns the tables that were changed.

    Raises Unavailable.
    """
    changed = []
    for table in warehouse.ask("sink/durable_tables"):
        if (table["synced"] == 1) == durable:
            continue
        if durable:
            to = "MODIFY SETTING " + ", ".join(f"{name} = {value}" for name, value in SETTINGS.items())
        else:
            to = "RESET SETTING " + ", ".join(SETTINGS)
        warehouse.command(f"ALTER TABLE `{table['name']}` {to}")  # the name is from the server's own list
        changed.append(table["name"])
    return changed
