"""A node's cgroups and its kubelet's summary, as metered rows."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from contracts.errors import BadInput, Unavailable
from contracts.events import UsageBatch
from producers.api import PollResult
from producers.meters.cgroups.cgroup_files import CgroupReader
from producers.meters.cgroups.config import CgroupRule
from producers.meters.kubelet.config import PodRule
from producers.meters.kubelet.stats_summary import KubeletReader
from producers.meters.observations import ObservedSource
from tests.support.clocks import clock_at

T0 = 1_700_000_000_000
MINUTE = 60_000


def row_values(result: PollResult) -> list[tuple[str, str, str, str, str]]:
    """(workload, tenant, meter, unit, quantity) of each row."""
    rows = []
    for batch in result.batches:
        b = batch.batch
        assert isinstance(b, UsageBatch)
        b.check()
        rows += [(batch.workload, *row) for row in zip(b.tenant, b.meter, b.unit, b.quantity, strict=True)]
    return sorted(rows)


class Tree:
    """A mounted cgroup2 and a procfs, as files."""

    def __init__(self, folder: Path) -> None:
        self.root, self.proc = folder / "cgroup", folder / "proc"
        self.root.mkdir()
        (self.root / "cgroup.controllers").write_text("cpu io memory\n")
        (self.proc / "net").mkdir(parents=True)
        self.node(cpu_us=0, total_kb=16, free_kb=16)

    def group(self, path: str, *, cpu_us: int, memory: int, read: int = 0) -> None:
        folder = self.root / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.stat").write_text(f"usage_usec {cpu_us}\nuser_usec {cpu_us}\nsystem_usec 0\n")
        (folder / "memory.current").write_text(f"{memory}\n")
        (folder / "io.stat").write_text(f"8:0 rbytes={read} wbytes=5 rios=1 wios=1 dbytes=0 dios=0\n8:16 rbytes=1\n")

    def node(self, *, cpu_us: int, total_kb: int, free_kb: int, received: int = 0) -> None:
        (self.root / "cpu.stat").write_text(f"usage_usec {cpu_us}\n")
        (self.proc / "meminfo").write_text(f"MemTotal: {total_kb} kB\nMemFree: 1 kB\nMemAvailable: {free_kb} kB\n")
        columns = "0 0 0 0 0 0 0"
        (self.proc / "net" / "dev").write_text(
            "Inter-|   Receive\n face |bytes\n"
            f"    lo: 999 {columns} 999 {columns}\n  eth0: {received} {columns} 7 {columns}\n"
        )

    def source(self, *groups: CgroupRule, host: bool = False) -> ObservedSource:
        reader = CgroupReader(groups, "n1", root=self.root, proc=self.proc, host=host, interfaces=("e*",))
        return ObservedSource("cgroups", "n1", "c1", "n1", MINUTE, reader.observe)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


VLLM = CgroupRule(path="system.slice/vllm-*.service", workload="chat", tenant="acme")


def test_a_cgroup_is_metered_from_poll_to_poll(tree: Tree) -> None:
    source = tree.source(VLLM)
    tree.group("system.slice/vllm-1.service", cpu_us=5_000_000, memory=2 * 10**9, read=10)
    first = source.collect(None, clock_at(T0))
    tree.group("system.slice/vllm-1.service", cpu_us=35_000_000, memory=4 * 10**9, read=1_010)
    second = source.collect(first.checkpoint, clock_at(T0 + MINUTE))
    assert row_values(first) == []
    assert row_values(second) == [
        ("chat", "acme", "cpu_memory_usage_gigabyte_minutes", "GB.min", "3"),
        ("chat", "acme", "cpu_usage_core_minutes", "core.min", "0.5"),
        ("chat", "acme", "storage_read_bytes", "By", "1000"),
    ]


def test_a_recreated_cgroup_of_the_same_name_counts_from_zero(tree: Tree) -> None:
    source = tree.source(VLLM)
    tree.group("system.slice/vllm-1.service", cpu_us=90_000_000, memory=0)
    first = source.collect(None, clock_at(T0))
    # The old one is kept under another name, so that the new one gets another inode.
    os.rename(tree.root / "system.slice/vllm-1.service", tree.root / "system.slice/gone")
    tree.group("system.slice/vllm-1.service", cpu_us=120_000_000, memory=0)
    (row, *_) = row_values(source.collect(first.checkpoint, clock_at(T0 + MINUTE)))
    assert row[2:] == ("cpu_usage_core_minutes", "core.min", "2")


def test_the_first_matching_rule_names_a_cgroup(tree: Tree) -> None:
    source = tree.source(VLLM, CgroupRule(path="**/*.service", workload="rest"))
    for name in ("system.slice/vllm-1.service", "system.slice/sshd.service"):
        tree.group(name, cpu_us=0, memory=0)
    first = source.collect(None, clock_at(T0))
    for name in ("system.slice/vllm-1.service", "system.slice/sshd.service"):
        tree.group(name, cpu_us=60_000_000, memory=0)
    values = row_values(source.collect(first.checkpoint, clock_at(T0 + MINUTE)))
    assert [row[0] for row in values] == ["chat", "rest"]


def test_the_node_itself_is_metered_without_loopback(tree: Tree) -> None:
    source = tree.source(host=True)
    first = source.collect(None, clock_at(T0))
    tree.node(cpu_us=120_000_000, total_kb=4_000_000, free_kb=2_000_000, received=500)
    assert row_values(source.collect(first.checkpoint, clock_at(T0 + MINUTE))) == [
        ("~n1", "", "cpu_memory_usage_gigabyte_minutes", "GB.min", "1.024"),
        ("~n1", "", "cpu_usage_core_minutes", "core.min", "2"),
        ("~n1", "", "network_received_bytes", "By", "500"),
    ]


def test_the_first_poll_of_a_cgroup_counts_nothing(tree: Tree) -> None:
    tree.group("system.slice/vllm-1.service", cpu_us=10**12, memory=0)
    first = tree.source(host=True).collect(None, clock_at(T0))
    assert row_values(tree.source(VLLM, host=True).collect(first.checkpoint, clock_at(T0 + MINUTE))) == []


def test_a_rule_without_a_match_is_reported_once(tree: Tree) -> None:
    source = tree.source(VLLM)
    first = source.collect(None, clock_at(T0))
    assert first.notes == [f"no cgroup is {VLLM.path}"]
    assert source.collect(first.checkpoint, clock_at(T0 + MINUTE)).notes == []


def test_a_folder_that_is_no_cgroup2_is_reported(tmp_path: Path) -> None:
    reader = CgroupReader([VLLM], "n1", root=tmp_path, proc=tmp_path, host=False, interfaces=())
    with pytest.raises(Unavailable, match="not cgroup v2"):
        reader.observe(clock_at(T0))


def summary(**pods: Mapping[str, object]) -> str:
    return json.dumps({"node": {"nodeName": "n1"}, "pods": list(pods.values())})


def pod(
    name: str, *, cpu_ns: int | None, memory: int = 0, uid: str = "u1", namespace: str = "serving"
) -> dict[str, object]:
    """In the form of kubelet 1.29, shortened."""
    summary: dict[str, object] = {
        "podRef": {"name": name, "namespace": namespace, "uid": uid}, "startTime": "2023-11-14T22:13:20Z",
        "memory": {"time": "2023-11-14T22:13:20Z", "usageBytes": 1, "workingSetBytes": memory},
        "network": {"name": "eth0", "rxBytes": 100, "rxErrors": 0, "txBytes": 50, "interfaces": [{"name": "eth0"}]},
        "volume": [{"usedBytes": 10**9, "name": "kube-api-access"}], "ephemeral-storage": {"usedBytes": 10**9},
        "containers": [{"name": "server"}],
    }  # fmt: skip
    if cpu_ns is not None:
        summary["cpu"] = {"usageNanoCores": 1, "usageCoreNanoSeconds": cpu_ns}
    return summary


class Node:
    """A kubelet that gives the test's answer."""

    def __init__(self, *rules: PodRule) -> None:
        self.text = ""
        self.source = ObservedSource(
            "kubelet", "k", "c1", "n1", MINUTE, KubeletReader(rules, lambda: self.text, "k").observe
        )

    def poll(self, mark: bytes | None, t_ms: int, **pods: Mapping[str, object]) -> PollResult:
        self.text = summary(**pods)
        return self.source.collect(mark, clock_at(t_ms))


CHAT = PodRule(namespace="serving", pod="chat-*", workload="chat", tenant="acme")


def test_a_pod_is_metered_from_poll_to_poll() -> None:
    node = Node(CHAT)
    first = node.poll(None, T0, a=pod("chat-1", cpu_ns=10**9, memory=10**9))
    second = node.poll(first.checkpoint, T0 + MINUTE, a=pod("chat-1", cpu_ns=91 * 10**9, memory=3 * 10**9))
    assert row_values(second) == [
        ("chat", "acme", "cpu_memory_usage_gigabyte_minutes", "GB.min", "2"),
        ("chat", "acme", "cpu_usage_core_minutes", "core.min", "1.5"),
        ("chat", "acme", "storage_usage_gigabyte_minutes", "GB.min", "2"),
    ]
    (batch,) = second.batches
    assert isinstance(batch.batch, UsageBatch)
    assert batch.batch.dimensions[0] == {"node": "n1", "namespace": "serving", "pod": "chat-1"}


def test_a_new_pod_counts_from_its_beginning() -> None:
    node = Node(CHAT)
    first = node.poll(None, T0)
    second = node.poll(first.checkpoint, T0 + MINUTE, a=pod("chat-2", cpu_ns=30 * 10**9))
    assert ("chat", "acme", "cpu_usage_core_minutes", "core.min", "0.5") in row_values(second)


def test_figures_that_a_kubelet_omits_once_are_not_counted_twice() -> None:
    node = Node(CHAT)
    mark = node.poll(None, T0, a=pod("chat-1", cpu_ns=60 * 10**9)).checkpoint
    mark = node.poll(mark, T0 + MINUTE, a=pod("chat-1", cpu_ns=None)).checkpoint
    values = row_values(node.poll(mark, T0 + 2 * MINUTE, a=pod("chat-1", cpu_ns=120 * 10**9)))
    assert ("chat", "acme", "cpu_usage_core_minutes", "core.min", "1") in values


def test_pods_without_a_rule_are_unmatched_and_reported_once() -> None:
    node = Node()
    first = node.poll(None, T0, a=pod("x", cpu_ns=0, namespace="dev"))
    second = node.poll(first.checkpoint, T0 + MINUTE, a=pod("x", cpu_ns=60 * 10**9, namespace="dev"))
    assert first.notes == ["no rule names the workload of pods in namespace 'dev': they show as 'unmatched/dev'"]
    assert second.notes == []
    assert ("unmatched/dev", "", "cpu_usage_core_minutes", "core.min", "1") in row_values(second)


@pytest.mark.parametrize("text", ["", "[]", '{"pods": []}', '{"node": {"nodeName": "n"}, "pods": [{"podRef": 1}]}'])
def test_an_invalid_summary_is_refused(text: str) -> None:
    node = Node()
    node.text = text
    with pytest.raises(BadInput, match="stats/summary"):
        node.source.collect(None, clock_at(T0))


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("meminfo", "MemTotal: x kB\n"), ("meminfo", "MemTotal:\n"), ("net/dev", "eth0: 1 2 3\n"),
        ("net/dev", "eth0: 1.5 0 0 0 0 0 0 0 7\n"),
    ],
)  # fmt: skip
def test_a_node_whose_files_are_malformed_does_not_stop_its_cgroups(tmp_path: Path, path: str, content: str) -> None:
    tree = Tree(tmp_path)
    source = tree.source(CgroupRule(path="a", workload="first"), host=True)
    mark = source.collect(None, clock_at(T0)).checkpoint
    tree.group("a", cpu_us=60_000_000, memory=0)
    (tree.proc / path).write_text(content)
    assert "first" in {batch.workload for batch in source.collect(mark, clock_at(T0 + MINUTE)).batches}


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
    assert ({batch.workload for batch in collected.batches}, len(collected.refused)) == ({"w"}, 1)
