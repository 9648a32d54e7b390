"""`Sink`: the stream job's writes of facts, ledger, hours, days and checkpoints. Every write may be repeated.

Tables are ReplacingMergeTree(version, deleted): a row replaces the row of the same key with a lower version. So the
replay repairs whatever a crash between two writes left. Call it from a thread, never from an event loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from contracts.dictionary_column import DictionaryColumn
from contracts.errors import LedgerError
from contracts.histogram import HistogramColumn
from contracts.rows import KEYS, SCHEMAS, Kind, Table, concat
from contracts.units import MS_PER_DAY, MS_PER_HOUR
from warehouse.client import Warehouse
from warehouse.reference_data.clusters import Cluster, list_clusters, put_clusters
from warehouse.sink.claims import claim
from warehouse.sink.fence import Fence

MAX_KEYS = 5_000_000
"""Keys that a restarted worker reads at most; a partition that stores more between commits is too large."""

WINDOWS_AT_ONCE = 200
"""Late windows in one question."""
SUBJECTS_AT_ONCE = 500
"""Workloads in one refresh: names are at most 253 characters, so the statement stays far below a server's limits."""

IDS_AT_ONCE = 5_000
"""Identities of usage rows in one question."""

WindowKey = tuple[int, str, str]
"""window_start (epoch ms), cluster, workload."""


class Sink:
    """The stream job's side of the warehouse."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse

    def claim(self, log_id: str, partitions: Sequence[int], owner: str) -> int:
        """Claim partitions of a log for a takeover, whose name `owner` no other has.

        Returns its epoch, greater than any before, once no earlier owner can write any more. Their rows may be read
        then.

        Raises Unavailable.
        """
        return claim(self._warehouse, log_id, partitions, owner)

    def write(self, name: str, table: Table, fence: Fence | None = None) -> None:
        """Store rows of `SCHEMAS[name]`. Repeating it changes nothing; a greater version wins; `deleted = 1` deletes.

        With a fence, only while its claim is the greatest. Else it raises Fenced and stores nothing of the table (of
        its last INSERT_ROWS rows). Raises Unavailable when the warehouse refuses it.
        """
        self._warehouse.insert(name, table, fence)

    def refresh_hours(self, hours_ms: Sequence[int], clusters: Sequence[str], workloads: Sequence[str]) -> None:
        """Recompute `ledger_hour` for these hours (epoch ms anywhere in the hour) and their days in `ledger_day`.

        It covers `clusters` x `workloads`. Only final windows count, and rows deleted from the ledger leave the hour. A
        row's version grows with every change to its windows, so a refresh from an older state (by a worker that lost
        its partition) never wins. If it ends between the two, days differ from hours until the next refresh of the same
        hours.
        """
        self._refresh("sink/refresh_hours", "hours", MS_PER_HOUR, hours_ms, clusters, workloads)
        self.refresh_days(hours_ms, clusters, workloads)

    def refresh_days(self, days_ms: Sequence[int], clusters: Sequence[str], workloads: Sequence[str]) -> None:
        """Recompute `ledger_day` from `ledger_hour` for these days (epoch ms anywhere in the day)."""
        self._refresh("sink/refresh_days", "days", MS_PER_DAY, days_ms, clusters, workloads)

    def _refresh(
        self,
        name: str,
        unit: str,
        step_ms: int,
        times_ms: Sequence[int],
        clusters: Sequence[str],
        workloads: Sequence[str],
    ) -> None:
        numbers = sorted({ms // step_ms for ms in times_ms})
        if not numbers:
            return
        steps: dict[str, Any] = {unit: numbers}
        for some in _batches(sorted(set(workloads)), SUBJECTS_AT_ONCE):
            self._warehouse.execute(
                name, **steps,
                from_ms=numbers[0] * step_ms, to_ms=(numbers[-1] + 1) * step_ms,
                clusters=sorted(set(clusters)), workloads=some,
            )  # fmt: skip

    def mark_simulated(self, clusters: Sequence[str]) -> None:
        """Mark these clusters' energy as simulated, unless they are marked already."""
        known = {c.cluster for c in list_clusters(self._warehouse) if c.simulated}
        new = [Cluster(cluster=name, simulated=True, note="SIMULATED source") for name in clusters if name not in known]
        put_clusters(self._warehouse, new)

    def load_checkpoint(self, log_id: str, log_partition: int) -> dict[str, Any] | None:
        """Return the newest checkpoint of a partition, or None.

        It has the columns of `contracts.rows.MARKS`, with `final_end` in epoch ms.
        """
        rows = self._warehouse.ask("sink/mark", log_id=log_id, log_partition=log_partition)
        return rows[0] if rows else None

    def claimed_above(self, log_id: str, partitions: Sequence[int], epoch: int) -> list[int]:
        """Return those of these partitions that another worker has claimed above this epoch."""
        rows = self._warehouse.ask("sink/claimed_above", log_id=log_id, log_partitions=list(partitions), epoch=epoch)
        return [row["log_partition"] for row in rows]

    def refresh_hours_of(self, log_id: str, log_partition: int, hours_ms: Sequence[int]) -> None:
        """Run `refresh_hours` of these hours for all workloads of a partition of the log."""
        if not hours_ms:
            return
        rows = self._warehouse.ask(
            "sink/workloads_in_hours", log_id=log_id, log_partition=log_partition,
            hours=[ms // MS_PER_HOUR for ms in hours_ms], from_ms=min(hours_ms), to_ms=max(hours_ms) + MS_PER_HOUR,
        )  # fmt: skip
        self.refresh_hours(hours_ms, [row["cluster"] for row in rows], [row["workload"] for row in rows])

    def stored_keys(self, log_id: str, log_partition: int, after_ms: int) -> dict[str, list[tuple[Any, ...]]]:
        """Return, by table, the keys of live rows that this partition of the log wrote for windows from `after_ms` on.

        Keys are in the order of `KEYS`, times as epoch ms. A restarted worker deletes those that it does not write
        again. Raises LedgerError above MAX_KEYS.
        """
        keys: dict[str, list[tuple[Any, ...]]] = {}
        left = MAX_KEYS
        for name, key in KEYS.items():
            rows = self._warehouse.ask_arrow(
                "sink/stored_keys", fragments={"table": name, "columns": ", ".join(key)},
                log_id=log_id, log_partition=log_partition, after_ms=after_ms, limit=left + 1,
            )  # fmt: skip
            left -= rows.num_rows
            if left < 0:
                raise LedgerError(
                    f"Partition {log_partition} of {log_id} holds more than {MAX_KEYS} rows that are not final: "
                    "use more partitions, or a shorter lateness."
                )
            keys[name] = list(zip(*(_column(rows[c], SCHEMAS[name][c], listed=True) for c in key), strict=True))
        return keys

    def facts(self, window_start_ms: int, cluster: str, workload: str) -> dict[str, Table]:
        """Return, by table of `KEYS`, the live rows of one window of one workload, to restate it from."""
        return self.facts_many([(window_start_ms, cluster, workload)])

    def facts_many(self, windows: Sequence[WindowKey]) -> dict[str, Table]:
        """Return the `facts` of many windows together, read in batches of WINDOWS_AT_ONCE."""
        batches: dict[str, list[Table]] = {name: [] for name in KEYS}
        for some in _batches(sorted(set(windows)), WINDOWS_AT_ONCE):
            for name, tables in batches.items():
                tables.append(self._facts_of(name, some))
        return {name: concat(name, tables) for name, tables in batches.items()}

    def rows_in(self, windows: Sequence[WindowKey]) -> dict[WindowKey, int]:
        """Return how many rows `facts` of each window would read, over all tables: the cost of restating it."""
        counts: dict[WindowKey, int] = {}
        for some in _batches(sorted(set(windows)), WINDOWS_AT_ONCE):
            starts, clusters, workloads = (list(part) for part in zip(*some, strict=True))
            for name in KEYS:
                for row in self._warehouse.ask(
                    "sink/window_row_counts", fragments={"table": name},
                    windows=starts, clusters=clusters, workloads=workloads, from_ms=min(starts), to_ms=max(starts),
                ):  # fmt: skip
                    window = row["start_ms"], row["cluster"], row["workload"]
                    counts[window] = counts.get(window, 0) + row["stored"]
        return counts

    def first_copies(self, ids: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
        """Return the identities of usage rows (halves of 128 bits) with several registered copies, of these.

        Each comes with the place of its first copy: `id_hi`, `id_lo`, `log_ms`, `log_id`, `log_partition`,
        `log_offset`, `log_row`.
        """
        first: list[dict[str, Any]] = []
        for some in _batches(ids, IDS_AT_ONCE):
            # Few have copies, and a cheap question finds candidates by half of the identity.
            rows = self._warehouse.ask_arrow("sink/usage_repeated_ids", his=[hi for hi, _ in some])
            several = set(rows["id_hi"].to_pylist()) if rows.num_rows else set()
            if candidates := [i for i in some if i[0] in several]:
                his, los = ([i[half] for i in candidates] for half in (0, 1))
                first += self._warehouse.ask_arrow("sink/usage_first_copies", his=his, los=los).to_pylist()
        return first

    def take_back_copies(self, ids: Sequence[tuple[int, int]], version: int) -> None:
        """Delete, at this version, all stored copies of these identities but the first."""
        for some in _batches(ids, IDS_AT_ONCE):
            his, los = ([i[half] for i in some] for half in (0, 1))
            self._warehouse.execute("sink/usage_take_back_copies", his=his, los=los, version=version)

    def _facts_of(self, name: str, windows: list[WindowKey]) -> Table:
        starts, clusters, workloads = (list(part) for part in zip(*windows, strict=True))
        rows = self._warehouse.ask_arrow(
            "sink/window_rows",
            fragments={"table": name, "columns": ", ".join(SCHEMAS[name]), "key": ", ".join(KEYS[name])},
            windows=starts, clusters=clusters, workloads=workloads, from_ms=min(starts), to_ms=max(starts),
        )  # fmt: skip
        # Copied, so that the Arrow table, in which every row has its full texts, can be freed.
        read: dict[Kind, Any] = {"text": _coded, "histogram": HistogramColumn.of_arrow}
        return {
            c: read[kind](rows[c]) if kind in read else _column(rows[c], kind).copy()
            for c, kind in SCHEMAS[name].items()
        }


def _coded(column: pa.ChunkedArray) -> DictionaryColumn[str]:
    """Return a column of texts as a dictionary column: a window may have a million rows."""
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0)
    return DictionaryColumn(
        encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    )


def _column(column: pa.ChunkedArray, kind: Kind, *, listed: bool = False) -> Any:
    """Return an Arrow column as numpy (times as epoch ms), or as a list of plain values."""
    if kind == "ms":
        column = column.cast(pa.int64())
    return column.to_pylist() if listed else column.to_numpy()


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while some := list(islice(iterator, size)):
        yield some
