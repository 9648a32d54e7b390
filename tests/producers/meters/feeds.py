"""Feeds of the meters: a cgroup's file, a pod, a series, a row; or the whole answer that holds them."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from producers.meters.cgroups import cgroup_files
from producers.meters.cgroups.config import CgroupRule
from producers.meters.kubelet.config import PodRule
from producers.meters.kubelet.stats_summary import KubeletReader
from producers.meters.observations import ObservedSource
from producers.meters.prometheus import promql
from producers.meters.sql import sql_query
from producers.meters.window_query import RowTemplate, WindowQuery
from producers.meters.windows import MeterSchedule, MeterWindow
from tests.producers.conformance import ERRORS, OBJECTS, VALUES, Feed, Outcome, Piece, poll, quantity, refusals
from tests.producers.meters.test_node import MINUTE, Tree
from tests.support.clocks import FakeClock

T0 = 1_700_000_040_000
CPU, POLLS = "cpu_usage_core_minutes", 5
TEMPLATE = RowTemplate(
    meter="m", unit="1", origin="x://y/0", cluster="c", workload="w", tenant="",
    columns={"tenant": "who", "session_id": "session"},
)  # fmt: skip


def _is_bad(clock: FakeClock) -> bool:
    """Return True at the third poll."""
    return (clock.now_ms - T0) // MINUTE == 2


def _clock() -> FakeClock:
    return FakeClock(T0 + POLLS * MINUTE - 1, now_ms=T0, epoch_ms=0)


def _observed(source: ObservedSource, folder: Path, clock: FakeClock) -> Outcome:
    log, metrics = poll([source], folder, clock)
    return Outcome(quantity(log, CPU), 2 * (POLLS - 1), refusals(metrics))


def _run_cgroups(file: str, piece: Piece, folder: Path) -> Outcome:
    tree, clock, counters = Tree(folder), _clock(), cgroup_files._counters
    source = tree.source(CgroupRule(path="a", workload="first"), CgroupRule(path="b", workload="second"))
    observe = source.observe

    def read(path: Path) -> dict[str, int]:
        if piece.is_error and _is_bad(clock) and path.name == "a":
            piece.read()
        return counters(path)

    def prepared_observe(_: Any) -> Any:
        for name in ("a", "b"):
            tree.group(name, cpu_us=60 * 10**6 * (clock.now_ms - T0) // MINUTE, memory=0)
        if _is_bad(clock) and not piece.is_error:
            (tree.root / "a" / file).write_bytes(piece.content)
        return observe(clock)

    source.observe = prepared_observe
    with patch.object(cgroup_files, "_counters", read):
        return _observed(source, folder, clock)


def _run_kubelet(place: str, piece: Piece, folder: Path) -> Outcome:
    clock = _clock()

    def pod(name: str, cpu: bytes) -> bytes:
        ref = json.dumps({"name": name, "namespace": "serving", "uid": name}).encode()
        return b'{"podRef": %s, "cpu": {"usageCoreNanoSeconds": %s}}' % (ref, cpu)

    def fetch() -> str:
        counter = b"%d" % (60 * 10**9 * (clock.now_ms - T0) // MINUTE)
        good, bad = pod("b", counter), pod("a", counter)
        if _is_bad(clock):
            content = piece.read()
            if isinstance(content, dict):
                content = json.dumps(json.loads(bad) | content).encode()
            if place == "page":
                return str(content.decode("utf-8", "replace"))
            bad = pod("a", content) if place == "value" else content
        return (b'{"node": {"nodeName": "n"}, "pods": [%s, %s]}' % (bad, good)).decode("utf-8", "replace")

    reader = KubeletReader([PodRule(workload="chat")], fetch, "k")
    return _observed(ObservedSource("kubelet", "k", "c", "n", MINUTE, reader.observe), folder, clock)


def _windows(ask: Any, folder: Path, clock: FakeClock, rows: float) -> Outcome:
    schedule = MeterSchedule(MINUTE, 0)
    log, metrics = poll([WindowQuery("x", "m", schedule, ask)], folder, clock)
    return Outcome(quantity(log, "m"), rows, refusals(metrics))


class _Once:
    """The third window's first query gets the piece; it is read again where it was refused as a whole."""

    def __init__(self, piece: Piece) -> None:
        self._piece, self._queries = piece, 0

    def is_next(self) -> bool:
        self._queries += 1
        return self._queries == 3


def _run_prometheus(place: str, piece: Piece, folder: Path) -> Outcome:
    once = _Once(piece)

    def series(zone: str, value: bytes = b"1") -> bytes:
        return b'{"metric": {"zone": "%s"}, "value": [1, "%s"]}' % (zone.encode(), value)

    def fetch(query: str, time_s: float) -> tuple[int, str]:
        bad = b""
        if once.is_next():
            content = piece.read()
            if place == "answer":
                return 200, content.decode("utf-8", "replace")
            bad = (series("b", content.replace(b'"', b"'")) if place == "value" else content) + b", "
        body = b'{"status": "success", "data": {"resultType": "vector", "result": [%s%s]}}' % (bad, series("a"))
        return 200, body.decode("utf-8", "replace")

    return _windows(partial(promql.ask, fetch, "x", TEMPLATE), folder, _clock(), POLLS)


def _run_sql(place: str, piece: Piece, folder: Path) -> Outcome:
    once = _Once(piece)

    def fetch(query: str, window: MeterWindow) -> sql_query.Rows:
        rows: list[tuple[Any, ...]] = [("a", 1)]
        if once.is_next():
            value = piece.read()
            rows.insert(0, ("b", value) if place == "quantity" else (value, 1) if place == "text" else value)
        return ["tool", "quantity"], rows

    return _windows(partial(sql_query.ask, fetch, "SELECT", TEMPLATE), folder, _clock(), POLLS)


class Hostile:
    """A value of a driver that has no text."""

    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


_CPU_STATS = {
    **{name: b"usage_usec %s\n" % content for name, content in VALUES.items() if isinstance(content, bytes)},
    "negative": b"usage_usec -5\n", "exponent": b"usage_usec 1e9\n", "wraps": b"usage_usec 18446744073709551615\n",
}  # fmt: skip
_LEVELS = {**VALUES, "no limit": b"max\n", "empty": b""}
_IO_STATS = {
    "text": b"8:0 rbytes=x\n", "huge": b"8:0 rbytes=%s\n" % (b"9" * 5_000), "encoding": b"8:0 rbytes=\xff\n",
    "overflow": b"8:0 rbytes=18446744073709551615\n8:1 rbytes=1\n",
}  # fmt: skip
_REF = {"namespace": "serving", "uid": "u"}
_PODS = {str(change)[:60]: change for change in (
    {"podRef": 1}, {"podRef": {"name": "a"}}, {"cpu": "text"}, {"cpu": {"usageCoreNanoSeconds": -1}},
    {"cpu": {"usageCoreNanoSeconds": 1.5}}, {"cpu": {"usageCoreNanoSeconds": 10**30}}, {"memory": []},
    {"memory": {"workingSetBytes": "5"}}, {"volume": {}}, {"volume": [1]},
    {"volume": [{"usedBytes": 2**64 - 1}, {"usedBytes": 1}]}, {"podRef": {**_REF, "name": "a" * 300}},
    {"podRef": {**_REF, "name": "\ud800"}}, {"podRef": {**_REF, "name": "a\n"}},
)}  # fmt: skip
_SERIES = {piece[:60]: piece.encode() for piece in (
    "1", "[]", "{}", '{"metric": {}, "value": 5}', '{"metric": {"x": 1}, "value": [1, "1"]}',
    '{"metric": {}, "value": [1, 1]}', '{"metric": {}, "value": [1e999, "1"]}',
    '{"metric": {"session": "%s"}, "value": [1, "1"]}' % ("s" * 300),
    '{"metric": {"who": "__x"}, "value": [1, "1"]}', '{"metric": {"x": "\\ud800"}, "value": [1, "1"]}',
)}  # fmt: skip
_ROWS = {"short": ("a",), "long": ("a", 1, 2), "empty": (), "none": None, "number": 5}
_TEXTS = {
    "long": "a" * 300, "control": "a\x00", "surrogate": "\ud800", "huge": 10**5_000, "hostile": Hostile(),
}  # fmt: skip
_QUANTITIES = {**OBJECTS, "bytes": b"5", "true": True, "null": None, "hostile": Hostile()}
del _QUANTITIES["negative"]
FEEDS = {
    "cgroups": [
        Feed("cpu.stat", partial(_run_cgroups, "cpu.stat"), "kernel", _CPU_STATS),
        Feed("memory.current", partial(_run_cgroups, "memory.current"), "kernel", _LEVELS, {}),
        Feed("io.stat", partial(_run_cgroups, "io.stat"), "kernel", _IO_STATS, {}),
    ],
    "kubelet": [
        Feed("page", partial(_run_kubelet, "page"), "page"),
        Feed("pod", partial(_run_kubelet, "pod"), "page", {**VALUES, **_PODS}, {}),
        Feed("value", partial(_run_kubelet, "value"), "page", VALUES, {}, ("null",)),
    ],
    "prometheus": [
        Feed("answer", partial(_run_prometheus, "answer"), "page"),
        Feed("series", partial(_run_prometheus, "series"), "page", {**VALUES, **_SERIES}, {}),
        Feed("value", partial(_run_prometheus, "value"), "page", VALUES, {}),
    ],
    "sql": [
        Feed("quantity", partial(_run_sql, "quantity"), "PostgreSQL", _QUANTITIES, ERRORS),
        Feed("text", partial(_run_sql, "text"), "ClickHouse", _TEXTS, {}),
        Feed("row", partial(_run_sql, "row"), "PostgreSQL", _ROWS, {}),
    ],
}
