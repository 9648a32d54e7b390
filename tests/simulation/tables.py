"""The warehouse's tables in dictionaries: the result of ReplacingMergeTree(version, deleted), read with FINAL.

Of a key's rows the one with the greatest version is current, of equal versions the last one written. `deleted` rows are
current too, so that a later row of a lower version stays hidden, and are left out of reads. `test_tables.py` compares
the answers with ClickHouse's.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from contracts.events import DIMENSIONS, TOKENS
from contracts.histogram import LATENCIES
from contracts.rows import KEYS, SCHEMAS, Table, conform
from contracts.units import MS_PER_HOUR

Row = tuple[Any, ...]
Key = tuple[Any, ...]

KEYS_OF = {
    **KEYS,
    "marks": ("log_id", "log_partition"),
    "sources": ("log_id", "log_partition", "topic", "source", "epoch"),
}
FIRST_FINAL = 1 << 62
"""The first version of final rows (streams/core/row_versions.py)."""

_AT = {name: {column: i for i, column in enumerate(schema)} for name, schema in SCHEMAS.items()}
_KEY_AT = {name: tuple(_AT[name][c] for c in key) for name, key in KEYS_OF.items()}
AMOUNTS = ("active_uj", "idle_uj", "unallocated_uj", *TOKENS, "work", "requests", "failures")
PAYER = ("cluster", "workload", "hardware", "model", "tenant", *DIMENSIONS)
_AMOUNTS_AT = tuple(_AT["ledger"][c] for c in AMOUNTS)
_L = _AT["ledger"]


def rows_of(name: str, table: Table) -> list[Row]:
    """A table's rows, as plain values in the order of the schema."""
    columns = [c.tolist() if isinstance(c, np.ndarray) else c for c in (table[column] for column in SCHEMAS[name])]
    return list(zip(*columns, strict=True))


class Tables:
    """The tables; the module describes them. `ordered=False` is a warehouse that ignores versions."""

    def __init__(self, *, ordered: bool = True) -> None:
        self._ordered = ordered
        self.rows: dict[str, dict[Key, Row]] = {name: {} for name in SCHEMAS}
        self.hours: dict[Key, tuple[int, Row]] = {}
        """(hour, *PAYER) -> (version, row; an empty one is a deleted one). A row is (*AMOUNTS, number of windows, the
        worst method, the greatest revision, *LATENCIES).
        """
        self.claims: set[tuple[str, int, int, str]] = set()
        """(log_id, log_partition, epoch, owner)."""

    # -- writes --------------------------------------------------------------------------------------------------------

    def write(self, name: str, some: Iterable[Row]) -> None:
        """Write rows, each where its version allows."""
        rows, key_at, version = self.rows[name], _KEY_AT[name], _AT[name]["version"]
        for row in some:
            key = tuple([row[i] for i in key_at])
            before = rows.get(key)
            if before is None or not self._ordered or before[version] <= row[version]:
                rows[key] = row

    def hours_of(
        self, hours_ms: Sequence[int], clusters: Sequence[str], workloads: Sequence[str]
    ) -> dict[Key, tuple[int, Row]]:
        """`warehouse/sink/refresh_hours.sql`: the expected hours of these subjects, and their version."""
        hours = {ms // MS_PER_HOUR for ms in hours_ms}
        subjects = (set(clusters), set(workloads))
        sums: dict[Key, list[int]] = defaultdict(lambda: [0] * (len(AMOUNTS) + 3))
        latencies: dict[Key, list[Counter[int]]] = defaultdict(lambda: [Counter() for _ in LATENCIES])
        seen: dict[Key, list[int]] = defaultdict(lambda: [0, 0])
        for row in self.rows["ledger"].values():
            hour = row[_L["window_start"]] // MS_PER_HOUR
            if hour not in hours or row[_L["cluster"]] not in subjects[0] or row[_L["workload"]] not in subjects[1]:
                continue
            key = (hour * MS_PER_HOUR, *(row[_L[c]] for c in PAYER))
            version = row[_L["version"]]
            if row[_L["final"]] or version >= FIRST_FINAL:
                stamp = seen[key]
                stamp[0] += 1
                stamp[1] += version - (FIRST_FINAL if version >= FIRST_FINAL else 0) + 1
            if row[_L["final"]] and not row[_L["deleted"]]:
                total = sums[key]
                for i, at in enumerate(_AMOUNTS_AT):
                    total[i] += row[at]
                for histogram, name in zip(latencies[key], LATENCIES, strict=True):
                    histogram.update(row[_L[name]])
                total[-3] += 1
                total[-2] = max(total[-2], row[_L["method"]])
                total[-1] = max(total[-1], row[_L["revision"]])
        standing = {
            k for k in self.hours if k[0] // MS_PER_HOUR in hours and k[1] in subjects[0] and k[2] in subjects[1]
        }
        return {
            key: (
                seen[key][1] if key in seen else self.hours[key][0],
                (*sums[key], *map(dict, latencies[key])) if key in sums else (),
            )
            for key in sorted({*sums, *seen, *standing})
        }

    def put_hours(self, hours: dict[Key, tuple[int, Row]]) -> None:
        """Write the result of `hours_of`; an empty row is a deleted one."""
        for key, (version, row) in hours.items():
            if not self._ordered or key not in self.hours or self.hours[key][0] <= version:
                self.hours[key] = (version, row)

    # -- reads ---------------------------------------------------------------------------------------------------------

    def live(self, name: str) -> list[dict[str, Any]]:
        """The rows that FINAL would show, as dictionaries."""
        deleted = _AT[name].get("deleted")
        columns = tuple(SCHEMAS[name])
        return [
            dict(zip(columns, row, strict=True))
            for row in self.rows[name].values()
            if deleted is None or not row[deleted]
        ]

    def live_hours(self) -> dict[Key, Row]:
        return {key: row for key, (_, row) in self.hours.items() if row}

    def load_checkpoint(self, log_id: str, log_partition: int) -> dict[str, Any] | None:
        row = self.rows["marks"].get((log_id, log_partition))
        return dict(zip(SCHEMAS["marks"], row, strict=True)) if row else None

    def max_epoch(self) -> int:
        """`warehouse/sink/claim_top.sql`."""
        marks = max((row[_AT["marks"]["epoch"]] for row in self.rows["marks"].values()), default=0)
        return max(marks, max((claim[2] for claim in self.claims), default=0))

    def claim_put(self, log_id: str, partitions: Sequence[int], epoch: int, owner: str) -> None:
        self.claims |= {(log_id, number, epoch, owner) for number in partitions}

    def claim_others(self, log_id: str, partitions: Sequence[int], owner: str) -> int:
        return self.top_claim(log_id, partitions, but=owner)

    def top_claim(self, log_id: str, partitions: Sequence[int], but: str | None = None) -> int:
        """The greatest epoch claimed for one of the partitions, by another owner if one is given."""
        return max((c[2] for c in self.claims if c[0] == log_id and c[1] in partitions and c[3] != but), default=0)

    def claimed_above(self, log_id: str, partitions: Sequence[int], epoch: int) -> list[int]:
        return sorted({c[1] for c in self.claims if c[0] == log_id and c[1] in partitions and c[2] > epoch})

    def subjects(self, log_id: str, log_partition: int, hours_ms: Sequence[int]) -> list[tuple[str, str]]:
        """The workloads that a partition has ledger rows of in these hours."""
        at, hours = _AT["ledger"], {ms // MS_PER_HOUR for ms in hours_ms}
        return sorted({
            (row[at["cluster"]], row[at["workload"]])
            for row in self.rows["ledger"].values()
            if (row[at["log_id"]], row[at["log_partition"]]) == (log_id, log_partition)
            and row[at["window_start"]] // MS_PER_HOUR in hours
        })  # fmt: skip

    def stored_keys(self, log_id: str, log_partition: int, after_ms: int) -> dict[str, list[Key]]:
        keys = {}
        for name in KEYS:
            at = _AT[name]
            log, number, start, deleted = (at[c] for c in ("log_id", "log_partition", "window_start", "deleted"))
            keys[name] = [
                key
                for key, row in self.rows[name].items()
                if row[start] >= after_ms and row[number] == log_partition and row[log] == log_id and not row[deleted]
            ]
        return keys

    def rows_in(self, windows: Iterable[tuple[int, str, str]]) -> dict[tuple[int, str, str], int]:
        """A large number, so that windows are restated one by one."""
        return dict.fromkeys(windows, 2**32)

    def facts_many(self, windows: Iterable[tuple[int, str, str]]) -> dict[str, Table]:
        starts = set(windows)
        result = {}
        for name in KEYS:
            at = _AT[name]
            where, deleted = (at["window_start"], at["cluster"], at["workload"]), at["deleted"]
            here = [
                row
                for row in self.rows[name].values()
                if (row[where[0]], row[where[1]], row[where[2]]) in starts and not row[deleted]
            ]
            columns = zip(*here, strict=True) if here else ((),) * len(at)
            result[name] = conform(name, {c: list(v) for c, v in zip(SCHEMAS[name], columns, strict=True)})
        return result
