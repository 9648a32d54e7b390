"""`warehouse.sink.sink.Sink` over the simulated warehouse: each call is one or more requests to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contracts.rows import Table, length
from tests.simulation.loop import Process
from warehouse.sink import claims, fence
from warehouse.sink.fence import Fence


class SimulatedSink:
    """The sink, as called by a function in a thread of one process."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def claim(self, log_id: str, partitions: Sequence[int], owner: str) -> int:
        """The real protocol, over the simulated server."""
        warehouse: Any = _Claims(self._process)
        return claims.claim(warehouse, log_id, partitions, owner, sleep=lambda s: self._process.ask("sleep", s))

    def write(self, name: str, table: Table, fence: Fence | None = None) -> None:
        if length(table):
            self._process.ask(f"write {name}", name, table, fence)

    def refresh_hours(self, hours_ms: Sequence[int], clusters: Sequence[str], workloads: Sequence[str]) -> None:
        if hours_ms:
            self._process.ask("refresh_hours", hours_ms, clusters, workloads)

    def mark_simulated(self, clusters: Sequence[str]) -> None:
        raise AssertionError("no source of a simulation is a simulated producer's")

    def load_checkpoint(self, log_id: str, log_partition: int) -> dict[str, Any] | None:
        return self._process.ask("load_checkpoint", log_id, log_partition)

    def claimed_above(self, log_id: str, partitions: Sequence[int], epoch: int) -> list[int]:
        return self._process.ask("claimed_above", log_id, partitions, epoch)

    def refresh_hours_of(self, log_id: str, log_partition: int, hours_ms: Sequence[int]) -> None:
        if hours_ms:
            subjects = self._process.ask("subjects", log_id, log_partition, hours_ms)
            self.refresh_hours(hours_ms, [c for c, _ in subjects], [w for _, w in subjects])

    def stored_keys(self, log_id: str, log_partition: int, after_ms: int) -> dict[str, list[tuple[Any, ...]]]:
        return self._process.ask("stored_keys", log_id, log_partition, after_ms)

    def facts_many(self, windows: Sequence[tuple[int, str, str]]) -> dict[str, Table]:
        return self._process.ask("facts_many", windows)

    def rows_in(self, windows: Sequence[tuple[int, str, str]]) -> dict[tuple[int, str, str], int]:
        return self._process.ask("rows_in", windows)


class _Claims:
    """The part of `warehouse.client.Warehouse` that `warehouse.sink.claims.claim` uses."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def ask(self, name: str, **params: Any) -> list[dict[str, Any]]:
        if name == "sink/claim_top":
            return [{"epoch": self._process.ask("max_epoch")}]
        if name == "sink/claim_others":
            key = params["log_id"], params["log_partitions"], params["owner"]
            return [{"epoch": self._process.ask("claim_others", *key)}]
        assert name == "sink/fenced_writes", name
        running: list[tuple[int, Fence]] = self._process.ask("fence_running")
        texts = [(n, fence.insert_sql("t", ("c",), "s", f)) for n, f in running]
        return [{"query_id": n, "query": text} for n, text in texts if params["mark"] in text]

    def command(self, sql: str, **params: Any) -> None:
        assert sql.startswith("KILL QUERY"), sql
        self._process.ask("kill", params["ids"])

    def execute(self, name: str, **params: Any) -> None:
        assert name == "sink/claim_put", name
        self._process.ask("claim_put", params["log_id"], params["log_partitions"], params["epoch"], params["owner"])
