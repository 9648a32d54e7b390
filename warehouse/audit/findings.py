"""Findings of an audit: windows, producers, nodes and devices that it names."""

from __future__ import annotations

from dataclasses import dataclass, field

from contracts.boundary import Boundary, part_of
from warehouse.results import Time


@dataclass(frozen=True, slots=True, order=True)
class UnbalancedWindow:
    """A window of a workload whose measured energy differs from the sum of its ledger rows."""

    residual_uj: int
    window_start_ms: int
    cluster: str
    workload: str


@dataclass(frozen=True, slots=True, order=True)
class StrayWindow:
    """A final window of a workload with rows of an ownership before the one that finalised it."""

    window_start_ms: int
    cluster: str
    workload: str


@dataclass(frozen=True, slots=True)
class SequenceGap:
    """A producer's run (one numbering, 0, 1, 2 ...) of which events are missing: `expected` = greatest number + 1."""

    missing: int
    topic: str
    source: str
    epoch: int
    expected: int
    received: int
    duplicates: int
    last_event: Time


@dataclass(frozen=True, slots=True)
class ContestedRun:
    """A producer's run of which `messages` are dead letters, because others had their numbers. Their numbers and event
    times lie between these."""

    messages: int
    topic: str
    source: str
    epoch: int
    first_seq: int
    last_seq: int
    first_event: Time
    last_event: Time


@dataclass(frozen=True, slots=True)
class SilentProducer:
    """A producer without events from `last_event` to `until`, while others of its log and topic, or the period, went
    on."""

    last_event: Time
    topic: str
    source: str
    until: Time


@dataclass(frozen=True, slots=True, order=True)
class GpuGap:
    """Unmeasured time between a GPU's first and last window: `missing_ms` of `[start, end)`."""

    missing_ms: int
    start: Time
    end: Time
    cluster: str
    node: str
    gpu_uuid: str


@dataclass(frozen=True, slots=True)
class GpuCoverage:
    """Covered time of a GPU, or of a host or a meter at the wall, between its first and its last window."""

    covered_ms: int
    expected_ms: int
    cluster: str
    node: str
    gpu_uuid: str
    first_window: Time
    last_window_end: Time
    hardware: str

    @property
    def missing_ms(self) -> int:
        return self.expected_ms - self.covered_ms

    @property
    def is_gpu(self) -> bool:
        return part_of(self.hardware) is Boundary.GPU


@dataclass(frozen=True, slots=True, order=True)
class EstimatedGpu:
    """A GPU of which some energy was estimated: over stretches that its counter bridged, or stood in."""

    estimated_ms: int
    estimated_uj: int
    cluster: str
    node: str
    gpu_uuid: str


@dataclass(frozen=True, slots=True, order=True)
class UnboundGpu:
    """A GPU that no workload occupied in the whole period: all of its energy is `__unallocated__`."""

    cluster: str
    node: str
    gpu_uuid: str


@dataclass(frozen=True, slots=True, order=True)
class SilentNode:
    """A node without measurements from `last_window_end` to `until`. `node` is "" where its whole cluster is silent."""

    last_window_end: Time
    cluster: str
    node: str
    until: Time


@dataclass(frozen=True, slots=True, order=True)
class DoubleCount:
    """A node whose host and wall were both measured in `windows` of `[start, end)`: that energy counts twice."""

    windows: int
    cluster: str
    node: str
    hardwares: list[str]
    start: Time
    end: Time


@dataclass(frozen=True, slots=True, order=True)
class NodeWithoutHost:
    """A node of which only GPUs were measured, while others of its cluster have energy of their host or wall."""

    cluster: str
    node: str


@dataclass(frozen=True, slots=True, order=True)
class SplitWorkload:
    """A workload with facts from several partitions of one log in the same hour, in so many hours.

    Its ledger rows replaced each other there: a producer used another partitioner, or partitions were added meanwhile.
    """

    hours: int
    cluster: str
    workload: str
    partitions: list[int]


@dataclass(frozen=True, slots=True, order=True)
class LateRestatement:
    """A window of a workload that late requests changed after the limit, by the senders of all its late requests.

    `tokens_before` are those of its requests in time, `tokens_after` of all. `stored` is when the last was stored.
    """

    window_start_ms: int
    cluster: str
    workload: str
    senders: list[str]
    late_requests: int
    tokens_before: int
    tokens_after: int
    stored: Time


@dataclass(frozen=True, slots=True, order=True)
class HoursApart:
    """Whole hours `[start, end)` without a gap."""

    start: Time
    end: Time


@dataclass(frozen=True, slots=True, order=True)
class WorkloadWithoutGpu:
    """A workload with requests and no measured energy in some hours: what its tokens cost then is open.

    `tokens` and `requests` are those of these hours: `hours_apart`, the newest of them in `apart`. With `met` it has
    both in other hours. `partner` has GPUs and no requests in the same hours, and may be the same workload under
    another name; where several may, they are `candidates`. `join` has the lines of configuration that would join them,
    or says in a comment which choice is open.
    """

    tokens: int
    requests: int
    cluster: str
    workload: str
    partner_cluster: str
    partner: str
    candidates: list[str]
    join: str
    met: bool = False
    hours_apart: int = 0
    apart: list[HoursApart] = field(default_factory=list)


@dataclass(frozen=True, slots=True, order=True)
class SameCalls:
    """Calls of a workload that two senders report, about `calls` of `of_first` and `of_second`: they count twice.

    A sender is named with the application that its calls name. `stop` says what stops each of them.
    """

    calls: int
    cluster: str
    workload: str
    first: str
    second: str
    of_first: int
    of_second: int
    stop: str
