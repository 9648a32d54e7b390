"""The report of an audit: totals, residuals, and the worst windows, producers and GPUs by name."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

from contracts.boundary import Boundary
from warehouse.audit.findings import (
    ContestedRun,
    DoubleCount,
    EstimatedGpu,
    GpuCoverage,
    GpuGap,
    LateRestatement,
    NodeWithoutHost,
    SameCalls,
    SequenceGap,
    SilentNode,
    SilentProducer,
    SplitWorkload,
    StrayWindow,
    UnbalancedWindow,
    UnboundGpu,
    WorkloadWithoutGpu,
)
from warehouse.results import Time

WORST = 20
"""How many of each kind are named."""

KeptRequests = Literal["all", "none"]
"""Which single requests workers store: `Settings.requests`."""


@dataclass(frozen=True, slots=True)
class Equation:
    """Balance of one part of the energy: measured = active + idle + unallocated, and the sum of all differences."""

    measured_uj: int = 0
    active_uj: int = 0
    idle_uj: int = 0
    unallocated_uj: int = 0
    residual_uj: int = 0

    def plus(self, other: Equation, sign: int = 1) -> Equation:
        """Return the sum of both, or with sign -1 the difference."""
        return Equation(*(getattr(self, f.name) + sign * getattr(other, f.name) for f in fields(Equation)))


def shortfall(table: str, off_uj: int, lack_uj: int, off_counts: int) -> str:
    """Say how a table that bills read differs from what it sums: `hours lack 12 µJ; bills read hours`."""
    if not off_uj:
        difference = f"are off by {off_counts:,} tokens, work or requests"
    elif lack_uj == off_uj:
        difference = f"lack {off_uj:,} µJ"
    elif lack_uj == -off_uj:
        difference = f"have {off_uj:,} µJ too many"
    else:
        difference = f"are off by {off_uj:,} µJ"
    return f"{table} {difference}; bills read {table}"


@dataclass(slots=True)
class Audit:
    """Balance and completeness of a period. Energies are integer microjoules; lists name at most WORST of each.

    `measured_uj` is the sum of facts; the three after it sum the ledger's final rows. `residual_uj` sums
    |measured - active - idle - unallocated| over windows, workloads and hardware types.

    `token_residual_tokens` and `request_residual` (requests and failures) sum such differences per tenant and model.
    `request_residual_uj` compares single requests' joules with their tenants' rows, over the `request_windows` whose
    requests are all still stored. In `request_windows_partly` some were not kept: the others may not sum to more than
    their tenants' rows. `requests` is the setting that the audit assumed; with `none`, windows may lack the requests of
    late messages.

    `hour_residual_uj` and `hour_residual_counts` (tokens, work, requests) compare hours with their windows,
    `day_residual_uj` and `day_residual_counts` days with their hours. `hours_lack_uj` and `days_lack_uj` sum the same
    differences of energy with their signs: positive where bills lack energy.

    `restating_windows` differ by `restating_uj` because their late facts are stored and not restated yet, or because
    their hours or days are due to be computed anew. They are no residual unless a second look sees them unchanged.
    `stray_windows` hold rows that a worker wrote after it had lost the partition.

    `windows_without_work` used energy for no work; `windows_without_energy` did work on GPUs that had no meter. Neither
    makes an audit fail. `coverage_ratio` is covered time over expected time, summed over GPUs (`GpuCoverage`). Hosts
    and meters at the wall are no GPUs: they are counted apart, as `meters`.

    `counter_uj`, `integrated_uj` and `estimated_uj` are `measured_uj` of stored windows by evidence, and `*_ms` the
    GPUs' time that they cover; `uncovered_ms` is the time without any. `measured_ratio` leaves estimates out of
    coverage. `gpus_unbound` were in no workload at all; `nodes_silent` counts silent nodes, and a silent cluster once.

    `host` and `wall` are the balance of these parts of the energy, which the totals include. `nodes_counted_twice` have
    both host and wall. `nodes_without_host` have neither, unlike others of their cluster.

    `silent_producers` report on a clock and stopped. `idle_senders` pass on calls alone (`contracts.source_kinds`):
    their saying nothing is no finding.

    `workloads_without_gpu` have requests and no measured energy in the whole period (`warehouse.audit.names`).
    `senders_twice` counts pairs of senders that report the same calls (`warehouse.audit.same_calls`).
    `workloads_split` have facts from several partitions of the log in one hour: some of their rows replaced others.
    `windows_restated_late` changed by requests that were stored longer than `max_age_ms` after them. They make no audit
    fail, and requests that are no longer stored name none.
    """

    windows: int = 0
    measured_uj: int = 0
    active_uj: int = 0
    idle_uj: int = 0
    unallocated_uj: int = 0
    residual_uj: int = 0
    host: Equation = Equation()
    wall: Equation = Equation()
    unbalanced: int = 0
    token_residual_tokens: int = 0
    request_residual: int = 0
    requests: KeptRequests = "all"
    request_windows: int = 0
    request_windows_partly: int = 0
    request_residual_uj: int = 0
    hours: int = 0
    hours_without_windows: int = 0
    hour_residual_uj: int = 0
    hours_lack_uj: int = 0
    hour_residual_counts: int = 0
    days: int = 0
    day_residual_uj: int = 0
    days_lack_uj: int = 0
    day_residual_counts: int = 0
    restating: int = 0
    restating_uj: int = 0
    restating_counts: int = 0
    strays: int = 0
    windows_without_work: int = 0
    windows_without_energy: int = 0
    producer_runs: int = 0
    runs_with_gaps: int = 0
    sequence_gaps: int = 0
    duplicates: int = 0
    contested_messages: int = 0
    contested_runs: int = 0
    silent_producers: int = 0
    idle_senders: int = 0
    gpus: int = 0
    gpus_with_gaps: int = 0
    uncovered_ms: int = 0
    coverage_ratio: float = 1.0
    counter_uj: int = 0
    counter_ms: int = 0
    integrated_uj: int = 0
    integrated_ms: int = 0
    estimated_uj: int = 0
    estimated_ms: int = 0
    gpus_with_estimates: int = 0
    gpus_unbound: int = 0
    nodes_silent: int = 0
    meters: int = 0
    meters_with_gaps: int = 0
    meters_uncovered_ms: int = 0
    meters_with_estimates: int = 0
    nodes_counted_twice: int = 0
    nodes_without_host: int = 0
    workloads_without_gpu: int = 0
    senders_twice: int = 0
    workloads_split: int = 0
    windows_restated_late: int = 0
    first_window: Time | None = None
    last_window_end: Time | None = None
    unbalanced_windows: list[UnbalancedWindow] = field(default_factory=list)
    restating_windows: list[UnbalancedWindow] = field(default_factory=list)
    stray_windows: list[StrayWindow] = field(default_factory=list)
    gaps_by_producer: list[SequenceGap] = field(default_factory=list)
    contested: list[ContestedRun] = field(default_factory=list)
    silent: list[SilentProducer] = field(default_factory=list)
    idle: list[SilentProducer] = field(default_factory=list)
    gpu_gaps: list[GpuGap] = field(default_factory=list)
    least_covered: list[GpuCoverage] = field(default_factory=list)
    estimated: list[EstimatedGpu] = field(default_factory=list)
    unbound: list[UnboundGpu] = field(default_factory=list)
    silent_nodes: list[SilentNode] = field(default_factory=list)
    least_covered_meters: list[GpuCoverage] = field(default_factory=list)
    double_counts: list[DoubleCount] = field(default_factory=list)
    without_host: list[NodeWithoutHost] = field(default_factory=list)
    names_apart: list[WorkloadWithoutGpu] = field(default_factory=list)
    same_calls: list[SameCalls] = field(default_factory=list)
    split_workloads: list[SplitWorkload] = field(default_factory=list)
    late_restatements: list[LateRestatement] = field(default_factory=list)

    @property
    def balanced(self) -> bool:
        """True without any residual, and without rows of a worker that had lost its partition."""
        return not (
            self.residual_uj
            or self.token_residual_tokens
            or self.request_residual
            or self.request_residual_uj
            or self.hour_residual_uj
            or self.hour_residual_counts
            or self.day_residual_uj
            or self.day_residual_counts
            or self.strays
        )

    @property
    def bill_shortfalls(self) -> list[str]:
        """Differences of hours and days, which bills read, from what they sum, as texts; empty if there are none."""
        texts = []
        if self.hour_residual_uj or self.hour_residual_counts:
            texts.append(shortfall("hours", self.hour_residual_uj, self.hours_lack_uj, self.hour_residual_counts))
        if self.day_residual_uj or self.day_residual_counts:
            texts.append(shortfall("days", self.day_residual_uj, self.days_lack_uj, self.day_residual_counts))
        return texts

    @property
    def ok(self) -> bool:
        """True if balanced, the log lost no event, no number of a producer was taken, and each workload was on one
        partition.

        Coverage does not count: a GPU may be off.
        """
        return self.balanced and not (self.sequence_gaps or self.contested_messages or self.workloads_split)

    @property
    def complete(self) -> bool:
        """True if `ok`, and nothing is missing, estimated, unbound, silent or counted twice.

        No node lacks the host's or wall's energy that others of its cluster have.

        Every GPU, host and meter at the wall is measured from its first to its last window, every GPU was in a
        workload, and no producer, node or cluster fell silent. No workload had tokens and no GPU, and no two
        senders reported the same calls.
        """
        missing = self.uncovered_ms or self.estimated_ms or self.gpus_unbound
        meters = self.meters_uncovered_ms or self.meters_with_estimates or self.nodes_counted_twice
        nodes = self.nodes_silent or self.nodes_without_host
        senders = self.silent_producers or self.senders_twice
        return self.ok and not (missing or meters or nodes or senders or self.workloads_without_gpu)

    @property
    def parts(self) -> dict[Boundary, Equation]:
        """The balance of each part of the energy that is there: of GPUs, hosts, and what is measured at the wall."""
        total = Equation(*(getattr(self, f.name) for f in fields(Equation)))
        gpu = total.plus(self.host, -1).plus(self.wall, -1)
        parts = {Boundary.GPU: gpu, Boundary.HOST: self.host, Boundary.WALL: self.wall}
        return {part: equation for part, equation in parts.items() if equation != Equation()}

    @property
    def measured_ratio(self) -> float:
        """Time that GPUs were measured in, by counter or watts, over the time that is expected of them."""
        expected_ms = self.counter_ms + self.integrated_ms + self.estimated_ms + self.uncovered_ms
        return (self.counter_ms + self.integrated_ms) / expected_ms if expected_ms else 1.0

    def add(self, part: Audit) -> None:
        """Add the sums and named windows of another part of the period; of each list keep the worst."""
        for column in fields(Audit):
            total, more = getattr(self, column.name), getattr(part, column.name)
            if isinstance(more, list):
                worst = sorted([*total, *more], reverse=column.name != "stray_windows")[:WORST]
                setattr(self, column.name, worst)
            elif isinstance(more, Equation):
                setattr(self, column.name, total.plus(more))
            elif isinstance(more, int):
                setattr(self, column.name, total + more)
