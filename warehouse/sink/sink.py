"""Where the stream job stores: facts, the ledger, its hours and days, and its marks. Every write may be repeated.

Tables are ReplacingMergeTree(version, deleted): a row replaces the row of the same key with a lower version, so that a
crash between two writes leaves nothing that the replay does not mend. Call it from a thread, never from an event loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from contracts.dictionary_column import DictionaryColumn
from contracts.errors import LedgerError
from contracts.rows import KEYS, SCHEMAS, Kind, Table, concat
from contracts.units import MS_PER_DAY, MS_PER_HOUR
from warehouse.client import Warehouse
from warehouse.reference_data.tables import Cluster, list_clusters, put_clusters
from warehouse.sink.claims import claim
from warehouse.sink.fence import Fence

MAX_KEYS = 5_000_000
"""Keys that a restarting worker may have to look through; a partition that stores more between commits is too wide."""

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
        """Claim partitions of a log for a takeover, which no other has the name `owner` of. Returns its epoch, greater
        than any before, when no earlier owner can write any more: what they stored may be read now.

        Raises Unavailable.
        """
        return claim(self._warehouse, log_id, partitions, owner)

    def write(self, name: str, table: Table, fence: Fence | None = None) -> None:
        """Store rows of `SCHEMAS[name]`. Again changes nothing; a greater version wins, `deleted = 1` takes away.

        With a fence, only while that claim holds: else Fenced, and nothing of the table (of its last INSERT_ROWS rows)
        is stored. Raises Unavailable when the warehouse does not take it.
        """
        self._warehouse.insert(name, table, fence)

    def refresh_hours(self, hours_ms: Sequence[int], clusters: Sequence[str], workloads: Sequence[str]) -> None:
        """Recompute `ledger_hour` for these hours (epoch ms anywhere in the hour) and `clusters` x `workloads`, and
        then the days that they lie in.

        Only final windows count. What is gone from the ledger goes from the hour too. A row's version grows with every
        change to the windows under it, so a refresh from an older state (a worker that lost its partition) never wins.
        Cut off between the two, days lack what hours have, until somebody calls again for the same hours.
        """
        self._refresh("sink/refresh_hours", "hours", MS_PER_HOUR, hours_ms, clusters, workloads)
        self.refresh_days(hours_ms, clusters, workloads)

    def refresh_days(self, days_ms: Sequence[int], clusters: Sequence[str], workloads: Sequence[str]) -> None:
        """Recompute `ledger_day` from `ledger_hour` for these days (epoch ms anywhere in the day), as hours are."""
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
        for some in _batches(sorted(set(workloads)), SUBJECTS_AT_ONCE):
            self._warehouse.execute(
                name, **{unit: numbers},
                from_ms=numbers[0] * step_ms, to_ms=(numbers[-1] + 1) * step_ms,
                clusters=sorted(set(clusters)), workloads=some,
            )  # fmt: skip

    def mark_simulated(self, clusters: Sequence[str]) -> None:
        """Note that these clusters' energy is simulated, where nobody has said so yet."""
        known = {c.cluster for c in list_clusters(self._warehouse) if c.simulated}
        new = [Cluster(name, True, "SIMULATED source") for name in clusters if name not in known]
        put_clusters(self._warehouse, new)

    def load_mark(self, log_id: str, log_partition: int) -> dict[str, Any] | None:
        """The newest mark of a partition (columns of `contracts.rows.MARKS`, `final_end` in epoch ms), or None."""
        rows = self._warehouse.ask("sink/mark", log_id=log_id, log_partition=log_partition)
        return rows[0] if rows else None

    def claimed_above(self, log_id: str, partitions: Sequence[int], epoch: int) -> list[int]:
        """Which of these partitions another worker has claimed since."""
        rows = self._warehouse.ask("sink/claimed_above", log_id=log_id, log_partitions=list(partitions), epoch=epoch)
        return [row["log_partition"] for row in rows]

    def refresh_hours_of(self, log_id: str, log_partition: int, hours_ms: Sequence[int]) -> None:
        """`refresh_hours` of these hours for all workloads of a partition of the log."""
        if not hours_ms:
            return
        rows = self._warehouse.ask(
            "sink/workloads_in_hours", log_id=log_id, log_partition=log_partition,
            hours=[ms // MS_PER_HOUR for ms in hours_ms], from_ms=min(hours_ms), to_ms=max(hours_ms) + MS_PER_HOUR,
        )  # fmt: skip
        self.refresh_hours(hours_ms, [row["cluster"] for row in rows], [row["workload"] for row in rows])

    def max_epoch(self) -> int:
        """The greatest epoch in any claim or mark of any log; 0 if there is none."""
        return int(self._warehouse.ask("sink/claim_top")[0]["epoch"])

    def stored_keys(self, log_id: str, log_partition: int, after_ms: int) -> dict[str, list[tuple[Any, ...]]]:
        """By table, the keys (in the order of `KEYS`, times as epoch ms) of the live rows that this partition of the
        log wrote for windows from `after_ms` on: a restarted worker deletes those that it does not write again.

        Raises LedgerError above MAX_KEYS.
        """
        found: dict[str, list[tuple[Any, ...]]] = {}
        left = MAX_KEYS
        for name, key in KEYS.items():
            rows = self._warehouse.ask_arrow(
                "sink/stored_keys", idents={"table": name, "columns": ", ".join(key)},
                log_id=log_id, log_partition=log_partition, after_ms=after_ms, limit=left + 1,
            )  # fmt: skip
            left -= rows.num_rows
            if left < 0:
                raise LedgerError(
                    f"Partition {log_partition} of {log_id} holds more than {MAX_KEYS} rows that are not final: "
                    "use more partitions, or a shorter lateness."
                )
            found[name] = list(zip(*(_column(rows[c], SCHEMAS[name][c], listed=True) for c in key), strict=True))
        return found

    def facts(self, window_start_ms: int, cluster: str, workload: str) -> dict[str, Table]:
        """By table of `KEYS`, the live rows of one window of one workload: what its restatement starts from."""
        return self.facts_many([(window_start_ms, cluster, workload)])

    def facts_many(self, windows: Sequence[WindowKey]) -> dict[str, Table]:
        """`facts` of many windows together, asked in batches of WINDOWS_AT_ONCE."""
        found: dict[str, list[Table]] = {name: [] for name in KEYS}
        for some in _batches(sorted(set(windows)), WINDOWS_AT_ONCE):
            for name, tables in found.items():
                tables.append(self._facts_of(name, some))
        return {name: concat(name, tables) for name, tables in found.items()}

    def rows_in(self, windows: Sequence[WindowKey]) -> dict[WindowKey, int]:
        """How many rows `facts` of each would look through, of all tables: what it may cost to restate it."""
        found: dict[WindowKey, int] = {}
        for some in _batches(sorted(set(windows)), WINDOWS_AT_ONCE):
            starts, clusters, workloads = (list(part) for part in zip(*some, strict=True))
            for name in KEYS:
                for row in self._warehouse.ask(
                    "sink/window_row_counts", idents={"table": name},
                    windows=starts, clusters=clusters, workloads=workloads, from_ms=min(starts), to_ms=max(starts),
                ):  # fmt: skip
                    window = row["start_ms"], row["cluster"], row["workload"]
                    found[window] = found.get(window, 0) + row["stored"]
        return found

    def first_copies(self, ids: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
        """Of these identities of usage rows (halves of 128 bits), those of which more than one copy is registered, each
        with the place of its first: `id_hi`, `id_lo`, `log_ms`, `log_id`, `log_partition`, `log_offset`, `log_row`."""
        found: list[dict[str, Any]] = []
        for some in _batches(ids, IDS_AT_ONCE):
            # Few have copies, and which may have is cheap to ask.
            rows = self._warehouse.ask_arrow("sink/usage_repeated_ids", his=[hi for hi, _ in some])
            several = set(rows["id_hi"].to_pylist()) if rows.num_rows else set()
            if doubtful := [i for i in some if i[0] in several]:
                his, los = ([i[half] for i in doubtful] for half in (0, 1))
                found += self._warehouse.ask_arrow("sink/usage_first_copies", his=his, los=los).to_pylist()
        return found

    def take_back_copies(self, ids: Sequence[tuple[int, int]], version: int) -> None:
        """Delete, at this version, whatever is stored of other copies of these identities than the first."""
        for some in _batches(ids, IDS_AT_ONCE):
            his, los = ([i[half] for i in some] for half in (0, 1))
            self._warehouse.execute("sink/usage_take_back_copies", his=his, los=los, version=version)

    def _facts_of(self, name: str, windows: list[WindowKey]) -> Table:
        starts, clusters, workloads = (list(part) for part in zip(*windows, strict=True))
        rows = self._warehouse.ask_arrow(
            "sink/window_rows",
            idents={"table": name, "columns": ", ".join(SCHEMAS[name]), "key": ", ".join(KEYS[name])},
            windows=starts, clusters=clusters, workloads=workloads, from_ms=min(starts), to_ms=max(starts),
        )  # fmt: skip
        # Copies, so that the answer, in which every row has its texts in full, is let go.
        return {
            c: _coded(rows[c]) if kind == "text" else _column(rows[c], kind).copy() for c, kind in SCHEMAS[name].items()
        }


def _coded(column: pa.ChunkedArray) -> DictionaryColumn[str]:
    """A column of texts, each text once: a window may have a million rows."""
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0)
    return DictionaryColumn(
        encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    )


def _column(column: pa.ChunkedArray, kind: Kind, *, listed: bool = False) -> Any:
    """An Arrow column as numpy (times as epoch ms), or as a list of plain values."""
    if kind == "ms":
        column = column.cast(pa.int64())
    return column.to_pylist() if listed else column.to_numpy()


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
