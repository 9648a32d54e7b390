"""Feeds of sources of bindings: the kubelet's list, a pod, a process, Slurm's answer; `BindingReader` reads them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry

from producers.api import BindingSource
from producers.bindings.apportion import Binding
from producers.bindings.claims import GpuBoard
from producers.bindings.config import PodLabelNames, ProcessRule
from producers.bindings.kubernetes.api_server import parse_list, parse_pods
from producers.bindings.kubernetes.pods import LABELS_MS, KubernetesBindings, PodDevice, PodListing
from producers.bindings.metrics import BindingMetrics
from producers.bindings.processes.rules import ProcessBindings
from producers.bindings.procfs import ProcessInfo, ProcFs
from producers.bindings.slurm.jobs import Scontrol, SlurmBindings, SlurmJob
from producers.bindings.watcher import BindingReader
from producers.runtime.refusals import RefusalReport
from tests.producers.bindings.kubernetes.stand_ins import pod
from tests.producers.bindings.processes.test_processes import process
from tests.producers.conformance import VALUES, Feed, Outcome, Piece, refusals

GOOD, BAD = "GPU-good", "GPU-bad"
READS = 3


def _read(source: BindingSource, before: Callable[[int], object] = lambda number: None) -> Outcome:
    """Read a source three times; the piece is there at the second. The good GPU's holder is known at each."""
    metrics, held = CollectorRegistry(), 0
    reader = BindingReader(
        lambda: (GpuBoard(GOOD), GpuBoard(BAD)), [source], Binding("~n"), keep_ms=10 * LABELS_MS,
        metrics=BindingMetrics(metrics), refusals=RefusalReport(metrics),
    )  # fmt: skip
    for number in range(READS):
        before(number)
        shares = reader.read(number * LABELS_MS).shares
        held += shares[GOOD][0].binding.workload.endswith("chat")
    return Outcome(held, READS, refusals(metrics))


class _Node:
    """A node with a pod on each GPU, as its kubelet and the API server show it."""

    def __init__(self, place: str, piece: Piece) -> None:
        self._place, self._piece, self._is_bad = place, piece, False

    def before(self, number: int) -> None:
        self._is_bad = number == 1

    def devices(self) -> Sequence[PodDevice]:
        if self._is_bad and self._place == "kubelet":
            self._piece.read()
        return [PodDevice("serving", name, "main", device) for name, device in (("good", GOOD), ("bad", BAD))]

    def pods(self) -> PodListing:
        labels = {"wattlog.io/workload": "chat", "wattlog.io/tenant": "acme"}
        good, bad = (json.dumps(pod("serving", name, labels)).encode() for name in ("good", "bad"))
        if self._is_bad and self._place == "list":
            return parse_pods(parse_list(self._piece.read(), "http://api").items or [], "http://api")
        if self._is_bad and self._place == "pod":
            bad = self._piece.read()
        body = b'{"items": [%s, %s]}' % (bad, good)
        return parse_pods(parse_list(body, "http://api").items or [], "http://api")


def _run_kubernetes(place: str, piece: Piece, folder: Path) -> Outcome:
    node = _Node(place, piece)
    return _read(KubernetesBindings(node, node, PodLabelNames(), keep_ms=10 * LABELS_MS), node.before)


class _Proc(ProcFs):
    """Processes, of which one cannot be read while `is_bad`."""

    def __init__(self, root: Path, piece: Piece) -> None:
        super().__init__(root)
        self._piece, self.is_bad = piece, False

    def process(self, pid: int) -> ProcessInfo | None:
        if self.is_bad and pid == 2:
            self._piece.read()
        return super().process(pid)


def _processes(folder: Path, piece: Piece) -> tuple[_Proc, Callable[[int], None]]:
    """Return a folder of two processes, and what is done to the second before each look."""
    proc = _Proc(folder, piece)
    for pid in (1, 2):
        process(folder, pid, "vllm", cgroup=f"/system.slice/slurmstepd.scope/job_{pid}/step_0")

    def before(number: int) -> None:
        proc.is_bad = number == 1
        if number == 1 and not piece.is_error:
            for file in ("status", "cmdline", "cgroup", "environ"):
                (folder / "2" / file).write_bytes(piece.content)

    return proc, before


def _running() -> dict[str, list[int]]:
    return {GOOD: [1], BAD: [2]}


def _run_processes(piece: Piece, folder: Path) -> Outcome:
    proc, before = _processes(folder, piece)
    rule = ProcessRule(workload="chat", tenant="acme", command="*vllm*")
    return _read(ProcessBindings(_running, proc, [rule]), before)


class _Jobs:
    """Slurm's controller, whose answer about job 2 is the piece: a command that prints it, or an exception."""

    def __init__(self, folder: Path, piece: Piece) -> None:
        self._piece, command = piece, folder / "scontrol"
        if not piece.is_error:
            (folder / "answer").write_bytes(piece.content)
            command.write_text(f"#!/bin/sh\ncat {folder / 'answer'}\n")
            command.chmod(0o755)
        self._scontrol = Scontrol(command)

    def job(self, number: int) -> SlurmJob:
        if number == 1:
            return SlurmJob("chat", "acme", 0)
        self._piece.read()
        return self._scontrol.job(number)


def _run_slurm(piece: Piece, folder: Path) -> Outcome:
    proc, _ = _processes(folder, Piece("none", b""))
    return _read(SlurmBindings(_running, proc, _Jobs(folder, piece)))


FEEDS = {
    "bindings": "it holds the options of the sources of bindings, which are fed as plug-ins of their own",
    "settings": "it claims each board for the workload of the settings, which are checked at start",
    "kubernetes": [
        Feed("list", partial(_run_kubernetes, "list"), "API server"),
        Feed("pod", partial(_run_kubernetes, "pod"), "API server", VALUES, {}),
        Feed("kubelet", partial(_run_kubernetes, "kubelet"), "gRPC", {}),
    ],
    "processes": [Feed("process", _run_processes, "kernel", harmless=tuple(VALUES))],
    "slurm": [Feed("job", _run_slurm, "command")],
}
