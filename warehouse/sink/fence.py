"""Fence: an insert that the server refuses once another worker has claimed the partition (docs/adr/0008).

A partition of the log has one writer. A worker that takes it over claims it (`claims`) under an epoch that was never
used. A claim has no deadline. Each insert reads the greatest claim in the statement that inserts, so the server
itself refuses what holders of lower epochs write.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from contracts.rows import SCHEMAS, Kind

FENCED_CODE = 395
"""FUNCTION_THROW_IF_VALUE_IS_NON_ZERO: the error of a statement that the fence refused."""

SQL_TYPES: dict[Kind, str] = {
    "text": "String", "ms": "DateTime64(3, \\'UTC\\')", "i64": "Int64", "u64": "UInt64", "u32": "UInt32",
    "u16": "UInt16", "u8": "UInt8", "decimal": "Decimal(38, 12)", "map": "Map(LowCardinality(String), String)",
    "histogram": "Map(UInt16, UInt64)",
}  # fmt: skip
"""Column types, escaped for a quoted structure."""

BOUND = "/* {fence_log:String} {fence_partitions:Array(UInt16)} {fence_epoch:UInt64} */"
"""Names the parameters of `insert_sql`, for the driver, which binds those at the beginning of a statement."""


@dataclass(frozen=True, slots=True)
class Fence:
    """A claim to partitions of a log, which every write of its holder names."""

    log_id: str
    log_partitions: tuple[int, ...]
    """All partitions whose rows the write holds."""
    epoch: int

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of `insert_sql`."""
        return {"fence_log": self.log_id, "fence_partitions": list(self.log_partitions), "fence_epoch": self.epoch}


def insert_sql(table: str, columns: Sequence[str], source: str, fence: Fence) -> str:
    """Return an insert of rows from a table function, which the server refuses unless the claim is the greatest.

    It ends with code FENCED_CODE then. It reads the claims when it starts, and the server lists it as running from
    before that until its rows are stored, which `claim` waits for. `claim` finds it by the text that it throws: the
    server rewrites a statement with bound parameters, and drops comments.
    """
    names, partitions = ", ".join(columns), ",".join(map(str, fence.log_partitions))
    return (  # Names of the schema, a hash and integers: no input from outside.
        # A batch holds each key once: looking for repeated keys would cost a quarter of the insert.
        f"INSERT INTO {table} ({names}) SETTINGS optimize_on_insert = 0 "  # noqa: S608 - see above
        f"SELECT {names} FROM {source} "
        "WHERE NOT throwIf(ifNull((SELECT max(epoch) FROM claims "
        "WHERE log_id = {fence_log:String} AND log_partition IN {fence_partitions:Array(UInt16)}), 0) "
        f"!= {{fence_epoch:UInt64}}, '{statement_mark(fence.log_id)}{partitions}:{fence.epoch}.')"
    )


def structure(table: str) -> str:
    """Return the columns of `SCHEMAS[table]` as table functions take them, quoted."""
    return "'" + ", ".join(f"{column} {SQL_TYPES[kind]}" for column, kind in SCHEMAS[table].items()) + "'"


def statement_mark(log_id: str) -> str:
    """Return the text that marks fenced statements of a log. Hashed, because a log's name may hold any character."""
    return f"wattlog fence {hashlib.sha256(log_id.encode()).hexdigest()[:16]}:"
