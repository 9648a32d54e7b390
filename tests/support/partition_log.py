"""Events, messages and a store in a dict, for tests of the core."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from contracts import codec, rows, topics
from contracts.events import Batch, Event, Method, PowerBatch, TokenBatch
from streams.core.attribution.policy import FloorVersion, Policy
from streams.core.checkpoint import Checkpoint
from streams.core.decoding import LogMessage, PartitionConfig, RejectedMessage
from streams.core.partition import ClosedWindows, Partition
from streams.core.restatement import restate
from tests.support.oracle import Interval, Request

NEVER = 2**62

Entry = tuple[Any, ...]
"""The key of a row, or its amounts."""
Row = dict[str, Any]


Int64 = np.ndarray[Any, np.dtype[np.int64]]


def _int64(values: Sequence[int]) -> Int64:
    return np.array(values, np.int64)


def power(intervals: list[Interval], t_ms: int = 0) -> PowerBatch:
    gpus = tuple(dict.fromkeys((i.gpu, i.hardware) for i in intervals))
    return PowerBatch(
        node=intervals[0].node if intervals else "n", gpus=gpus,
        gpu=np.array([gpus.index((i.gpu, i.hardware)) for i in intervals], np.uint16),
        t0_ms=_int64([i.t0 for i in intervals]), t1_ms=_int64([i.t1 for i in intervals]),
        energy_uj=_int64([i.energy_uj for i in intervals]), method=np.full(len(intervals), Method.COUNTER, np.uint8),
        busy_ms=np.full(len(intervals), -1, np.int64), owner=intervals[0].owner if intervals else "", t_ms=t_ms,
    )  # fmt: skip


def tokens(requests: list[Request], t_ms: int = 0) -> TokenBatch:
    tenants, models = tuple(dict.fromkeys(r.tenant for r in requests)), tuple(dict.fromkeys(r.model for r in requests))

    def column(name: str) -> Int64:
        return _int64([getattr(r, name) for r in requests])

    return TokenBatch(
        tenants=tenants, tenant=np.array([tenants.index(r.tenant) for r in requests], np.uint16),
        models=models, model=np.array([models.index(r.model) for r in requests], np.uint16),
        request_id=tuple(r.request_id for r in requests), t_start_ms=column("start"), t_first_ms=column("first"),
        t_end_ms=column("end"), prompt_tokens=column("prompt"), cached_tokens=column("cached"),
        completion_tokens=column("completion"), statuses=("ok", "error"),
        status=np.array([0 if r.ok else 1 for r in requests], np.uint16), t_ms=t_ms,
        requests=column("number") if any(r.number != 1 for r in requests) else None,
    )  # fmt: skip


class Log:
    """One partition's two topics: numbers events and turns them into messages."""

    def __init__(self) -> None:
        self.seq: dict[str, int] = {}
        self.messages: dict[str, list[LogMessage]] = {t: [] for t in topics.JOINED}

    def append(
        self,
        batch: Batch,
        cluster: str = "c",
        workload: str = "w",
        source: str = "s",
        *,
        seq: int | None = None,
        content_type: str = codec.PACKED,
    ) -> LogMessage:
        topic = codec.topic_of(batch)
        source = f"{source}/{topic}"
        number = self.seq.get(source, 0) if seq is None else seq
        self.seq[source] = max(self.seq.get(source, 0), number + 1)
        headers, value = codec.encode(Event(source, 1, number, cluster, workload, batch), content_type=content_type)
        return self.raw(topic, headers, value)

    def raw(self, topic: str, headers: Any, value: bytes | None) -> LogMessage:
        message = LogMessage(topic, len(self.messages[topic]), headers, value)
        self.messages[topic].append(message)
        return message

    def repeat(self, message: LogMessage) -> LogMessage:
        return self.raw(message.topic, message.headers, message.value)


class Store:
    """Tables as dicts by key. The greater version wins, as in ReplacingMergeTree."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[Entry, Row]] = {name: {} for name in rows.KEYS}
        self.marks: list[Row] = []
        self.sources: dict[Entry, Row] = {}

    def write(self, name: str, table: rows.Table) -> None:
        n = rows.length(table)
        for i in range(n):
            row = {c: (v[i].item() if isinstance(v, np.ndarray) else v[i]) for c, v in table.items()}
            if name == "marks":
                self.marks.append(row)
            elif name == "sources":
                self.sources[row["topic"], row["source"], row["epoch"]] = row
            else:
                key = tuple(row[c] for c in rows.KEYS[name])
                if key not in self.tables[name] or self.tables[name][key]["version"] <= row["version"]:
                    self.tables[name][key] = row

    def live(self, name: str) -> list[Row]:
        return [r for r in self.tables[name].values() if not r["deleted"]]

    def facts(self, keys: Iterable[Entry]) -> dict[str, rows.Table]:
        keys = set(keys)
        out: dict[str, rows.Table] = {}
        for name, schema in rows.SCHEMAS.items():
            if name in rows.KEYS:
                live = [r for r in self.live(name) if (r["window_start"], r["cluster"], r["workload"]) in keys]
                out[name] = rows.conform(name, {c: [r[c] for r in live] for c in schema})
        return out

    def mark(self) -> Checkpoint | None:
        return Checkpoint.load(max(self.marks, key=lambda m: m["version"])) if self.marks else None

    def keys_after(self, after_ms: int) -> dict[str, list[Entry]]:
        return {
            name: [k for k, r in table.items() if not r["deleted"] and r["window_start"] >= after_ms]
            for name, table in self.tables.items()
        }

    def ledger(self) -> dict[Entry, Entry]:
        columns = (
            "active_uj",
            "idle_uj",
            "unallocated_uj",
            "prompt_tokens",
            "cached_tokens",
            "completion_tokens",
            "requests",
            "failures",
        )
        names = ("window_start", "cluster", "workload", "hardware", "tenant", "model")
        return {
            tuple(r[c] for c in names): tuple(r[c] for c in columns)
            for r in self.live("ledger")
            if r["final"]
        }  # fmt: skip


class Died(Exception):
    """The worker was killed."""


def store_flush(partition: Partition, flush: ClosedWindows, store: Store, die_at: int = -1) -> None:
    """Write a flush as the stream worker does; `die_at` kills the worker before its n-th write."""
    step = 0

    def write(name: str, table: rows.Table) -> None:
        nonlocal step
        if step == die_at:
            raise Died
        step += 1
        store.write(name, table)

    for name, table in flush.tables.items():
        write(name, table)
    if flush.tables:
        write("marks", partition.finals_stored(flush))
    if flush.late_tables:
        for name, table in flush.late_tables.items():
            write(name, table)
        restated = restate(
            store.facts(flush.late_keys),
            partition.policy,
            partition.epoch,
            log_id=partition.log_id,
            log_partition=partition.log_partition,
        )
        for name, table in restated.items():
            write(name, table)
        write("marks", partition.late_stored(flush))
    sources = partition.progress.take_source_rows()
    if sources:
        write("sources", sources)


class Worker:
    """A partition with its store and committed offsets, which can die and start again."""

    def __init__(
        self, log: Log, store: Store | None = None, policy: Policy | None = None, config: PartitionConfig | None = None
    ) -> None:
        self.log, self.store = log, store or Store()
        self.policy, self.config = policy or Policy(), config or PartitionConfig()
        self.committed = dict.fromkeys(topics.JOINED, 0)
        self.epoch = 0
        self.rejected: list[RejectedMessage] = []
        self.start()

    def start(self) -> None:
        self.epoch += 1
        mark = self.store.mark()
        after = mark.final_end_ms if mark else 0
        self.partition = Partition(
            "log",
            0,
            self.config,
            self.policy,
            epoch=self.epoch,
            checkpoint=mark,
            stored_keys=self.store.keys_after(after),
        )
        self.at = dict(self.committed)

    def read(self, topic: str, count: int, now_ms: int = NEVER) -> None:
        batch = self.log.messages[topic][self.at[topic] : self.at[topic] + count]
        self.at[topic] += len(batch)
        rejected = self.partition.ingest(batch, now_ms)
        self.rejected += rejected
        self.partition.progress.dead_letters_published({(r.message.topic, r.message.offset) for r in rejected})

    def flush(self, now_ms: int = 0, die_at: int = -1, **bounds: Any) -> bool:
        flush = self.partition.advance(now_ms, **bounds)
        if flush:
            store_flush(self.partition, flush, self.store, die_at)
        else:
            mark = self.partition.progress.checkpoint_if_moved()
            if mark:
                self.store.write("marks", mark)
        self.commit()
        return flush is not None

    def provisional(self) -> None:
        table = self.partition.provisional(0)
        if table:
            self.store.write("ledger", table)

    def commit(self) -> None:
        self.committed |= self.partition.progress.checkpoint_offsets()

    def run(self) -> Store:
        for topic in topics.JOINED:
            self.read(topic, 10**9)
        while self.flush(
            NEVER + 3_600_000
        ):  # Heartbeats may be committed already: the idle timeout closes the remaining windows.
            pass
        return self.store


def policy(floors: dict[str, int] | None = None, idle: Any = "by-work") -> Policy:
    return Policy(tuple(FloorVersion(h, 0, NEVER, mw, 1) for h, mw in (floors or {}).items()), idle=idle)


def close(log: Log, t_ms: int) -> None:
    """Heartbeats that let every window up to `t_ms` become final."""
    later = t_ms + 600_000
    log.append(power([], later), source="beat")
    log.append(tokens([], later), source="beat")
