"""Malformed pieces of meters: one cgroup, pod, series or row that cannot be read is refused, its neighbours are
metered.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from contracts.events import UsageBatch
from producers.api import PollResult
from producers.meters.cgroups.cgroup_files import CgroupReader
from producers.meters.cgroups.config import CgroupRule
from producers.meters.kubelet.config import PodRule
from producers.meters.kubelet.stats_summary import KubeletReader
from producers.meters.observations import ObservedSource
from producers.meters.prometheus import promql
from producers.meters.sql import sql_query
from producers.meters.window_query import RowTemplate
from producers.meters.windows import MeterWindow
from tests.producers.meters.test_node import MINUTE, T0, Tree, pod, summary
from tests.support.clocks import clock_at

TEMPLATE = RowTemplate(
    meter="m",
    unit="1",
    origin="x://y/0",
    cluster="c",
    workload="w",
    tenant="",
    columns={"tenant": "who", "session_id": "session"},
)
WINDOW = MeterWindow(T0, T0 + MINUTE)


def _workloads(collected: PollResult) -> set[str]:
    for item in collected.batches:
        assert isinstance(item.batch, UsageBatch)
        item.batch.check()
    return {item.workload for item in collected.batches}


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("cpu.stat", b"usage_usec x\n"), ("cpu.stat", b"usage_usec -5\n"), ("cpu.stat", b"usage_usec 1e9\n"),
        ("cpu.stat", b"usage_usec " + b"9" * 5_000), ("cpu.stat", b"usage_usec 18446744073709551615\n"),
        ("cpu.stat", b"\xff\xfe 1"), ("memory.current", b"max\n"), ("memory.current", b""), ("memory.current", b"NaN"),
        ("io.stat", b"8:0 rbytes=x\n"), ("io.stat", b"8:0 rbytes=18446744073709551615\n8:1 rbytes=1\n"),
    ],
)  # fmt: skip
def test_a_cgroup_whose_files_are_malformed_is_refused_alone(tmp_path: Path, file: str, content: bytes) -> None:
    tree = Tree(tmp_path)
    source = tree.looks(CgroupRule(path="a", workload="first"), CgroupRule(path="b", workload="second"), host=True)
    mark = source.collect(None, clock_at(T0)).checkpoint
    for name in ("a", "b"):
        tree.group(name, cpu_us=60_000_000, memory=0)
    (tree.root / "a" / file).write_bytes(content)
    tree.node(cpu_us=60_000_000, total_kb=2, free_kb=1)
    collected = source.collect(mark, clock_at(T0 + MINUTE))
    assert _workloads(collected) == {"second", "~n1"}
    [error] = collected.refused
    assert "'a'" in error


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("meminfo", "MemTotal: x kB\n"), ("meminfo", "MemTotal:\n"), ("net/dev", "eth0: 1 2 3\n"),
        ("net/dev", "eth0: 1.5 0 0 0 0 0 0 0 7\n"),
    ],
)  # fmt: skip
def test_a_node_whose_files_are_malformed_does_not_stop_its_cgroups(tmp_path: Path, path: str, content: str) -> None:
    tree = Tree(tmp_path)
    source = tree.looks(CgroupRule(path="a", workload="first"), host=True)
    mark = source.collect(None, clock_at(T0)).checkpoint
    tree.group("a", cpu_us=60_000_000, memory=0)
    (tree.proc / path).write_text(content)
    assert "first" in _workloads(source.collect(mark, clock_at(T0 + MINUTE)))


def test_a_cgroup_whose_name_is_no_text_is_refused_alone(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    reader = CgroupReader(
        (CgroupRule(path="*", workload="w"),), "n1", root=tree.root, proc=tree.proc, host=False, interfaces=()
    )
    source = ObservedSource("cgroups", "n1", "c1", "n1", MINUTE, reader.observe)
    mark = source.collect(None, clock_at(T0)).checkpoint
    for name in ("good", b"bad\xff".decode(errors="surrogateescape")):
        tree.group(name, cpu_us=60_000_000, memory=0)
    collected = source.collect(mark, clock_at(T0 + MINUTE))
    assert (_workloads(collected), len(collected.refused)) == ({"w"}, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"podRef": 1}, {"podRef": {"name": "a"}}, {"cpu": "text"}, {"cpu": {"usageCoreNanoSeconds": -1}},
        {"cpu": {"usageCoreNanoSeconds": 1.5}}, {"cpu": {"usageCoreNanoSeconds": 10**30}}, {"memory": []},
        {"memory": {"workingSetBytes": "5"}}, {"volume": {}}, {"volume": [1]},
        {"volume": [{"usedBytes": 2**64 - 1}, {"usedBytes": 1}]},
        {"podRef": {"name": "a" * 300, "namespace": "serving", "uid": "u"}},
        {"podRef": {"name": "\ud800", "namespace": "serving", "uid": "u"}},
        {"podRef": {"name": "a\n", "namespace": "serving", "uid": "u"}},
    ],
    ids=str,
)  # fmt: skip
def test_a_malformed_pod_is_refused_alone(change: dict[str, Any]) -> None:
    text = json.loads(summary(a=pod("a", cpu_ns=60 * 10**9), b=pod("b", cpu_ns=60 * 10**9)))
    text["pods"][0] |= change
    texts = [summary(), json.dumps(text)]
    reader = KubeletReader([PodRule(pod="b", workload="second")], lambda: texts.pop(0), "k")
    source = ObservedSource("kubelet", "k", "c1", "n1", MINUTE, reader.observe)
    mark = source.collect(None, clock_at(T0)).checkpoint
    collected = source.collect(mark, clock_at(T0 + MINUTE))
    assert (_workloads(collected), len(collected.refused)) == ({"second"}, 1)


SERIES = '{"metric": {"zone": "a"}, "value": [1700000000, "1"]}'


@pytest.mark.parametrize(
    "piece",
    [
        "1", "null", '"text"', "[]", "{}", '{"metric": {}, "value": 5}', '{"metric": {"x": 1}, "value": [1, "1"]}',
        '{"metric": {}, "value": [1, "NaN"]}', '{"metric": {}, "value": [1, "-Inf"]}',
        '{"metric": {}, "value": [1, 1]}',
        '{"metric": {}, "value": [1, "1e99999999999999999999"]}', '{"metric": {}, "value": [1, "1e999999"]}',
        '{"metric": {}, "value": [1, "%s"]}' % ("9" * 5_000), '{"metric": {}, "value": [1e999, "1"]}',
        '{"metric": {"session": "%s"}, "value": [1, "1"]}' % ("s" * 300),
        '{"metric": {"who": "__x"}, "value": [1, "1"]}',
        '{"metric": {"x": "\\ud800"}, "value": [1, "1"]}',
    ],
)  # fmt: skip
def test_a_malformed_series_is_refused_alone(piece: str) -> None:
    text = f'{{"status": "success", "data": {{"resultType": "vector", "result": [{SERIES}, {piece}, {SERIES}]}}}}'
    refused: list[str] = []
    rows = list(promql.ask(lambda query, time_s: (200, text), "x", TEMPLATE, WINDOW, refused))
    assert (len(rows), len(refused)) == (2, 1)
    assert "series 1" in refused[0]


class Hostile:
    """A value of a driver that has no text."""

    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    "row",
    [
        ("a", math.nan), ("a", math.inf), ("a", Decimal("NaN")), ("a", Decimal("sNaN")), ("a", Decimal("-Infinity")),
        ("a", Decimal("1E+999999")), ("a", 10**5_000), ("a", None), ("a", "5"), ("a", b"5"), ("a", [1]), ("a", True),
        ("a" * 300, 1), ("a\x00", 1), ("\ud800", 1), (10**5_000, 1), (Hostile(), 1), ("a",), ("a", 1, 2), (),
    ],
    ids=lambda row: "-".join(type(value).__name__ for value in row),
)  # fmt: skip
def test_a_row_that_a_driver_returns_is_refused_alone(row: tuple[object, ...]) -> None:
    rows = [("a", 1), row, ("b", Decimal("1E-999999"))]
    refused: list[str] = []
    results = list(
        sql_query.ask(lambda query, window: (["tool", "quantity"], rows), "SELECT", TEMPLATE, WINDOW, refused)
    )
    assert (len(results), len(refused)) == (2, 1)
    assert "row 1" in refused[0]
