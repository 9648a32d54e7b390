"""Rows of the stored tables, as columns.

A `Table` is a dict of equally long columns: numpy arrays, and lists or `CompactColumn`s of texts. `SCHEMAS` fixes the
names, the order and the kind of the columns of every table that stream workers write. warehouse/ turns them into Arrow,
and a test compares them with the DDL. Times are UTC epoch milliseconds, energies integer microjoules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from contracts.dictionary_column import CompactColumn, DictionaryColumn
from contracts.events import DIMENSIONS, LABELS, TOKEN_COLUMNS, TOKENS, USAGE_COLUMNS
from contracts.histogram import LATENCIES, HistogramColumn

Kind = Literal["text", "ms", "i64", "u64", "u32", "u16", "u8", "decimal", "map", "histogram"]
"""Kind of a column. `decimal` and `map` are arrays of objects: a Decimal of at most 38 digits, 12 of them after the
point, and a Mapping of texts by name. A `histogram` is a `HistogramColumn`."""
Column = npt.NDArray[Any] | Sequence[str]
Table = dict[str, Column]

# Provenance of every written row:
#   log_id, log_partition   the log, and the partition of it, that the row was derived from
#   version                 the greater one wins (streams/core/row_versions.py)
#   deleted                 1: this key is no longer part of the window
_PROVENANCE: dict[str, Kind] = {"log_id": "text", "log_partition": "u16", "version": "u64", "deleted": "u8"}

_TOKENS: dict[str, Kind] = dict.fromkeys(TOKENS, "i64")
"""Counts of tokens: every token column of `contracts.events.TokenBatch`."""

_DIMENSIONS: dict[str, Kind] = dict.fromkeys(DIMENSIONS, "text")
"""What tokens were used for: empty where the ledger does not keep a dimension, or where it is unknown."""

_LATENCIES: dict[str, Kind] = dict.fromkeys(LATENCIES, "histogram")
"""How long requests took, by bucket (contracts.histogram)."""

_LABELS: dict[str, Kind] = dict.fromkeys(LABELS, "text")
"""Texts of single requests: every optional text column of `contracts.events.TokenBatch`."""

GPU_ENERGY: dict[str, Kind] = {
    "window_start": "ms", "cluster": "text", "node": "text", "gpu_uuid": "text", "workload": "text",
    "late_id": "u64", "window_ms": "u32", "hardware": "text", "owner": "text", "method": "u8",
    "energy_uj": "i64", "covered_ms": "i64", "busy_ms": "i64",
    **_PROVENANCE,
}  # fmt: skip
"""Measured energy. `late_id` is 0 for facts in time, else it identifies the late message. `covered_ms` is the time that
intervals cover, `busy_ms` utilisation x time (-1 unknown)."""

TOKEN_USAGE: dict[str, Kind] = {
    "window_start": "ms", "cluster": "text", "workload": "text", "tenant": "text", "model": "text", **_DIMENSIONS,
    "late_id": "u64", "window_ms": "u32", **_TOKENS,
    "computed_mtok": "i64", "cached_mtok": "i64", "completion_mtok": "i64", "request_ms": "i64", "requests": "i64",
    "failures": "i64", **_LATENCIES,
    **_PROVENANCE,
}  # fmt: skip
"""Processed tokens. `*_tokens` are integers that sum to the tokens of the events. `*_mtok` are thousandths of tokens,
the finer spread from which work is computed (`computed` = prompt less cached). `request_ms` is the time that requests
ran in the window: their work, where none of the window's requests has token work. A request counts in the window in
which it ended."""

REQUEST_ENERGY: dict[str, Kind] = {
    "tenant": "text", "t_end": "ms", "request_id": "text", "window_start": "ms", "late_id": "u64", "window_ms": "u32",
    "cluster": "text", "workload": "text", "model": "text", "t_start": "ms", **_LABELS,
    "status": "text", **_TOKENS,
    "computed_mtok": "i64", "cached_mtok": "i64", "completion_mtok": "i64", "request_ms": "i64", "active_uj": "i64",
    "idle_uj": "i64",
    **_PROVENANCE,
}  # fmt: skip
"""One row per request, window in which it ran, and late message that brought it. The view `requests` sums them to one
row per request."""

REQUEST_SECOND_MILLI = 1000
"""Work per request-second, in thousandths, where no request of a window has token work."""
REQUEST_TIME_VERSION = 1_000_000_000
"""Added to the version of the weights in ledger rows whose work is request-seconds: no request had token work."""

LEDGER: dict[str, Kind] = {
    "window_start": "ms", "cluster": "text", "workload": "text", "hardware": "text", "model": "text", "tenant": "text",
    **_DIMENSIONS, "window_ms": "u32", "active_uj": "i64", "idle_uj": "i64", "unallocated_uj": "i64",
    **_TOKENS, "work": "i64",
    "requests": "i64", "failures": "i64", **_LATENCIES,
    "method": "u8", "weights_version": "u32", "floor_version": "u32",
    "revision": "u32", "final": "u8",
    **_PROVENANCE,
}  # fmt: skip
"""The split of a window's joules. `work` is weighted tokens, or request-seconds, in thousandths. `hardware` is ""
and `method` UNMETERED for tokens without measured energy."""

MARKS: dict[str, Kind] = {
    "log_id": "text", "log_partition": "u16", "epoch": "u64", "version": "u64", "final_end": "ms",
    "power_offset": "i64", "tokens_offset": "i64", "state": "text",
}  # fmt: skip
"""Checkpoints: how far a partition's ledger is final and stored, and the state to continue from (JSON in `state`)."""

SOURCES: dict[str, Kind] = {
    "log_id": "text", "log_partition": "u16", "topic": "text", "source": "text", "epoch": "u64", "version": "u64",
    "received": "u64", "last_seq": "u64", "duplicates": "u64", "last_event": "ms",
    "contested": "u64", "contested_first_seq": "u64", "contested_last_seq": "u64", "contested_first": "ms",
    "contested_last": "ms",
}  # fmt: skip
"""Events received from each run of a producer: the log lost `last_seq + 1 - received` of them. `contested` messages had
numbers that others had taken; their numbers and event times lie between these."""

# Position of a row of usage on the log. No two rows share one, and a row that is read again has the same one.
_PLACE: dict[str, Kind] = {"log_id": "text", "log_partition": "u16", "log_offset": "i64", "log_row": "u32"}

_USAGE_LABELS: dict[str, Kind] = {
    c.name: "map" if c.form == "map" else "text"
    for c in USAGE_COLUMNS
    if c.optional and c.form in ("text", "map") and c.name not in ("origin", "event_id")
}
"""Labels of a row: every optional column of `contracts.events.UsageBatch` but those that identify the row."""

USAGE: dict[str, Kind] = {
    "at": "ms", "cluster": "text", "workload": "text", "tenant": "text", "meter": "text", "unit": "text",
    "quantity": "decimal", "t0": "ms", "t1": "ms", **_USAGE_LABELS, "origin": "text", "event_id": "text",
    "source": "text", "epoch": "u64", "seq": "u64",
    **_PLACE, "version": "u64", "deleted": "u8",
}  # fmt: skip
"""Metered quantities, as they were sent. `at` is the last millisecond of `[t0, t1)`, or t0 where those are equal. The
row counts entirely in the hour, day and month of `at`."""

USAGE_IDS: dict[str, Kind] = {
    "id_hi": "u64", "id_lo": "u64", "log_ms": "ms", **_PLACE, "at": "ms", "tenant": "text", "version": "u64",
}  # fmt: skip
"""Every copy of every row of usage on the log: its identity (streams/core/usage_batch.py), its time and position on the
log, and the rest of its key in `usage`."""

USAGE_EVENTS: dict[str, Kind] = {
    "source": "text", "epoch": "u64", "seq": "u64", "log_id": "text", "log_partition": "u16", "log_offset": "i64",
    "last_event": "ms", "version": "u64",
}  # fmt: skip
"""Every event of usage that was read. A number that a producer gave and that is missing here never arrived."""

SCHEMAS: Mapping[str, Mapping[str, Kind]] = {
    "gpu_energy": GPU_ENERGY, "token_usage": TOKEN_USAGE, "request_energy": REQUEST_ENERGY, "ledger": LEDGER,
    "marks": MARKS, "sources": SOURCES, "usage": USAGE, "usage_ids": USAGE_IDS, "usage_events": USAGE_EVENTS,
}  # fmt: skip

_DTYPES: dict[Kind, Any] = {
    "ms": np.int64, "i64": np.int64, "u64": np.uint64, "u32": np.uint32, "u16": np.uint16, "u8": np.uint8,
    "decimal": np.object_, "map": np.object_,
}  # fmt: skip


_ABSENT: Mapping[str, int | str] = {
    **{c.name: 0 for c in TOKEN_COLUMNS if c.optional}, **dict.fromkeys(LABELS, ""), **dict.fromkeys(LATENCIES, 0),
}  # fmt: skip
"""Values of columns that requests may leave out."""
OPTIONAL_COLUMNS = frozenset(_ABSENT)
"""Columns that an insert may leave out where all their rows are empty: the warehouse fills them in."""


def length(table: Table) -> int:
    """Return the number of rows."""
    return len(next(iter(table.values()))) if table else 0


def conform(name: str, columns: Mapping[str, Column | HistogramColumn | int | str]) -> Table:
    """Return columns in the order and types of `SCHEMAS[name]`. A scalar becomes a constant column.

    Columns that requests may leave out may be missing here too, and are then empty: 0 or "". Raises KeyError for any
    other missing column, ValueError for lengths that differ.
    """
    sized = [c for c in columns.values() if not isinstance(c, (int, str))]
    n = len(sized[0]) if sized else 1
    table: Table = {}
    for column, kind in SCHEMAS[name].items():
        value = columns[column] if column in columns or column not in _ABSENT else _ABSENT[column]
        if kind == "text":
            table[column] = _text(value, n)
        elif kind == "histogram":
            table[column] = _histograms(value, n)
        elif isinstance(value, int):
            table[column] = np.full(n, value, _DTYPES[kind])
        else:
            table[column] = np.asarray(value, _DTYPES[kind])
        if len(table[column]) != n:
            raise ValueError(f"{name}.{column} has {len(table[column])} rows, not {n}")
    return table


def _text(value: Any, n: int) -> Column:
    if isinstance(value, str):
        return DictionaryColumn.constant(value, n)
    return value if isinstance(value, (CompactColumn, list)) else [str(v) for v in value]


def _histograms(value: Any, n: int) -> Any:
    if isinstance(value, HistogramColumn):
        return value
    return HistogramColumn.empty(n) if isinstance(value, int) else HistogramColumn.of(value)


def concat(name: str, tables: Sequence[Table]) -> Table:
    """Return tables of one schema, end to end."""
    if len(tables) == 1:
        return tables[0]
    out: Table = {}
    for column, kind in SCHEMAS[name].items():
        if kind == "text":
            out[column] = _join_texts([t[column] for t in tables])
        elif kind == "histogram":
            histograms: Any = [t[column] for t in tables]
            out[column] = HistogramColumn.concat(histograms)  # type: ignore[assignment]
        else:
            out[column] = np.concatenate(
                [np.asarray(t[column], _DTYPES[kind]) for t in tables] or [np.zeros(0, _DTYPES[kind])]
            )
    return out


def _join_texts(texts: Sequence[Column]) -> Column:
    forms = {type(t) for t in texts} or {DictionaryColumn}
    form = forms.pop()
    if not forms and issubclass(form, CompactColumn):
        return form.concat(texts)
    return [v for t in texts for v in t]


KEYS: Mapping[str, tuple[str, ...]] = {
    "gpu_energy": ("cluster", "workload", "node", "gpu_uuid", "window_start", "late_id"),
    "token_usage": ("tenant", "cluster", "workload", "model", "window_start", "late_id", *DIMENSIONS),
    "request_energy": (
        "tenant",
        "cluster",
        "workload",
        "window_start",
        "request_id",
        "t_end",
        "model",
        "late_id",
        *DIMENSIONS,
    ),
    "ledger": ("tenant", "cluster", "workload", "model", "hardware", "window_start", *DIMENSIONS),
}
"""Columns that identify a row: the tables' sort keys. A row replaces the one with the same key."""


def keys(name: str, table: Table) -> list[tuple[str | int, ...]]:
    """Return the rows' keys, in `KEYS` order, times as epoch milliseconds."""
    columns = [table[c] if SCHEMAS[name][c] == "text" else np.asarray(table[c]).tolist() for c in KEYS[name]]
    return list(zip(*columns, strict=True))


def tombstones(name: str, gone: Sequence[tuple[str | int, ...]], **provenance: int | str) -> Table:
    """Return rows that delete these keys: `deleted` is 1, and all columns but key and provenance are empty."""
    columns: dict[str, Column | int | str] = {c: "" if kind == "text" else 0 for c, kind in SCHEMAS[name].items()}
    for i, column in enumerate(KEYS[name]):
        columns[column] = [key[i] for key in gone]  # type: ignore[misc]
    return conform(name, {**columns, **provenance, "deleted": 1})
