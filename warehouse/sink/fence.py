"""One writer a partition of the log, and what keeps the ones before it out (docs/adr/0008).

A worker that takes a partition over *claims* it under an epoch that nobody had. From then on the server itself refuses
what holders of lower epochs write: each insert asks for the greatest claim, in the statement that inserts. Statements
that asked before the claim was there are waited for, then killed. After `claim`, what earlier owners stored stands
still, and can be read.
"""

from __future__ import annotations

import hashlib
import re
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from contracts.errors import Unavailable
from contracts.rows import SCHEMAS, Kind
from warehouse.sql_files import question

if TYPE_CHECKING:
    from warehouse.client import Warehouse

THROWN = 395
"""FUNCTION_THROW_IF_VALUE_IS_NON_ZERO: what a fenced statement ends with when the fence holds."""
CLAIMS_MOST = 20
"""Claims that one takeover makes, each above what it found, before it gives way for now."""
KILL_AFTER_S, DRAIN_MOST_S, POLL_S = 5.0, 60.0, 0.02

SQL_TYPES: dict[Kind, str] = {
    "text": "String", "ms": "DateTime64(3, \\'UTC\\')", "i64": "Int64", "u64": "UInt64", "u32": "UInt32",
    "u16": "UInt16", "u8": "UInt8", "decimal": "Decimal(38, 12)", "map": "Map(LowCardinality(String), String)",
}  # fmt: skip
"""Column types as they stand within a quoted structure."""

BOUND = "/* {fence_log:String} {fence_partitions:Array(UInt16)} {fence_epoch:UInt64} */"
"""Names what `insert_sql` binds, for the driver, which binds what it finds in a statement's beginning."""


@dataclass(frozen=True, slots=True)
class Fence:
    """A claim as its holder shows it with every write."""

    log_id: str
    log_partitions: tuple[int, ...]
    """All that the write holds rows of."""
    epoch: int

    @property
    def parameters(self) -> dict[str, Any]:
        """What `insert_sql` binds."""
        return {"fence_log": self.log_id, "fence_partitions": list(self.log_partitions), "fence_epoch": self.epoch}


def insert_sql(table: str, columns: Sequence[str], source: str, fence: Fence) -> str:
    """An insert of rows from a table function that the server refuses (code THROWN) unless the claim is the greatest.

    The claims are asked when the statement starts, and the server lists it as running from before that until its
    rows are stored: what `claim` waits for. What it throws is also what it is found by there: a comment would not be
    listed, since the server writes a statement with bound parameters anew.
    """
    names, partitions = ", ".join(columns), ",".join(map(str, fence.log_partitions))
    return (  # Names of the schema, a hash and integers: nobody's input.
        # Each key is in a batch once: looking for those that come twice would cost a quarter of the insert.
        f"INSERT INTO {table} ({names}) SETTINGS optimize_on_insert = 0 "  # noqa: S608 - see above
        f"SELECT {names} FROM {source} "
        "WHERE NOT throwIf(ifNull((SELECT max(epoch) FROM claims "
        "WHERE log_id = {fence_log:String} AND log_partition IN {fence_partitions:Array(UInt16)}), 0) "
        f"!= {{fence_epoch:UInt64}}, '{_mark(fence.log_id)}{partitions}:{fence.epoch}.')"
    )


def structure(table: str) -> str:
    """The columns of `SCHEMAS[table]` as table functions take them, quoted."""
    return "'" + ", ".join(f"{column} {SQL_TYPES[kind]}" for column, kind in SCHEMAS[table].items()) + "'"


def claim(
    warehouse: Warehouse,
    log_id: str,
    partitions: Sequence[int],
    owner: str,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Claim partitions of a log, and return the epoch when nobody below it can write any more.

    `owner` is a name that no other takeover has. Of two that claim at once, each under the same epoch, the one whose
    row is stored second reads both, and claims again above: so nobody goes on under an epoch that two have. Doing it
    again is harmless, but fences what the first time returned.

    Raises Unavailable when others keep claiming, or when a statement of theirs does not end.
    """
    asked = {"log_id": log_id, "log_partitions": sorted(partitions)}
    for turn in range(CLAIMS_MOST):
        (top,) = warehouse.ask("claim_top")
        # Those that met once step apart, so that they hardly meet again.
        step = 1 + zlib.crc32(f"{owner}/{turn}".encode()) % (4 * turn + 1)
        epoch = int(top["epoch"]) + step
        warehouse.command(question("claim_put"), **asked, epoch=epoch, owner=owner)
        (others,) = warehouse.ask("claim_others", **asked, owner=owner)
        if int(others["epoch"]) < epoch:
            _drain(warehouse, log_id, frozenset(partitions), epoch, sleep)
            return epoch
    raise Unavailable(
        f"Others claim partitions {asked['log_partitions']} of {log_id} at the same time, {CLAIMS_MOST} times",
        "Check that one consumer group writes to this warehouse.",
        reason="claims",
    )


def _drain(
    warehouse: Warehouse, log_id: str, partitions: frozenset[int], epoch: int, sleep: Callable[[float], None]
) -> None:
    """Wait for the writes of lower epochs that asked before our claim was there; all that start later are refused."""
    running = _running(warehouse, log_id, partitions, epoch)
    waited_s = 0.0
    while running:
        if waited_s >= DRAIN_MOST_S:
            raise Unavailable(
                f"Writes of an earlier owner of partitions {sorted(partitions)} of {log_id} do not end: "
                f"queries {', '.join(sorted(running)[:5])}",
                "Look at system.processes; this worker's user must see and may kill its own queries.",
                reason="draining",
            )
        if waited_s >= KILL_AFTER_S:
            warehouse.command("KILL QUERY WHERE query_id IN {ids:Array(String)} ASYNC", ids=sorted(running))
        sleep(POLL_S)
        waited_s += POLL_S
        running &= _running(warehouse, log_id, partitions, epoch)


def _running(warehouse: Warehouse, log_id: str, partitions: frozenset[int], epoch: int) -> set[str]:
    """Ids of the writes to these partitions under lower epochs that the server is at."""
    found = set()
    mark = _mark(log_id)
    for row in warehouse.ask("fence_running", mark=mark):
        said = re.search(rf"{mark}([\d,]+):(\d+)\.", row["query"])
        if said and partitions & set(map(int, said[1].split(","))) and int(said[2]) < epoch:
            found.add(row["query_id"])
    return found


def _mark(log_id: str) -> str:
    """What statements of a log are found by. Hashed, because a log's name may hold anything."""
    return f"wattlog fence {hashlib.sha256(log_id.encode()).hexdigest()[:16]}:"
