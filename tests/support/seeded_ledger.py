"""A small fleet's ledger for the tests of reads, API and reports, attributed by the real rule.

`eu-1` (measured): two hours of 10 s windows that end with October 2026. `sim-1` (SIMULATED): sixty days of hours
before.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from contracts import codec
from contracts.columns import I64
from contracts.events import Event
from contracts.histogram import LATENCIES, MAX_BUCKETS, HistogramCounts, buckets_of
from contracts.rows import Table, conform
from contracts.units import MS_PER_HOUR, epoch_ms
from producers.runtime.batching import UsageRow, usage_batch
from streams.core import usage_batch as core
from streams.core.attribution.attribute import attribute
from streams.core.attribution.facts import AMOUNTS, NO_PRODUCT, Energy, Facts, Tokens
from streams.core.attribution.policy import FloorVersion, Policy
from warehouse.client import Warehouse
from warehouse.reference_data.attribution_tables import IdleFloor, put_idle_floors, seed_defaults
from warehouse.reference_data.clusters import Cluster, put_clusters
from warehouse.reference_data.prices import Price, put_prices
from warehouse.reference_data.tenants import Tenant, put_tenants
from warehouse.reference_data.validity import END_MS as FOREVER_MS
from warehouse.sink.sink import Sink

END_MS = epoch_ms("2026-11-01T00:00:00Z")
REAL_START_MS = END_MS - 2 * MS_PER_HOUR
SIM_START_MS = END_MS - 60 * 24 * MS_PER_HOUR
LOG = "test-log"
PRICES = [
    Price("energy", "*", Decimal("0.12"), currency="USD"),
    Price("energy", "eu-1", Decimal("0.313"), epoch_ms("2026-10-01"), currency="USD"),
    Price("pue", "*", Decimal("1.25")),
    Price("carbon", "*", Decimal("342.5")),
]
POLICY = Policy(floors=(FloorVersion("H100", 0, 2**62, 90_000, 7), FloorVersion("A100", 0, 2**62, 60_000, 7)))

# (node, gpu_uuid, hardware, subject)
REAL_GPUS = [
    ("n1", "GPU-a", "H100", 0),
    ("n1", "GPU-b", "H100", 0),
    ("n2", "GPU-c", "H100", 1),
    ("n2", "GPU-d", "A100", 1),
    ("n3", "GPU-e", "A100", 2),
]
REAL_SUBJECTS = [("eu-1", "chat"), ("eu-1", "code"), ("eu-1", "~n3")]
REAL_WORK = [("acme", "llama-70b", 0), ("globex", "llama-70b", 0), ("acme", "coder-32b", 1)]
SIM_GPUS = [("s1", "SIM-a", "B200", 0), ("s1", "SIM-b", "B200", 0)]
SIM_SUBJECTS = [("sim-1", "chat")]
SIM_WORK = [("globex", "llama-70b", 0), ("initech", "qwen-32b", 0)]


_HOUR_MS = (REAL_START_MS, REAL_START_MS + MS_PER_HOUR)
_S1: dict[str, Any] = {"tenant": "acme", "session_id": "s-1"}
_PLAN, _ACT = ({**_S1, "trace_id": "t-1", "step": step} for step in ("plan", "act"))
USAGE = [
    (
        "eu-1",
        "chat",
        UsageRow(meter="tool_calls", unit="call", quantity="2", t0_ms=END_MS - 9_000, t1_ms=END_MS - 9_000, **_PLAN),
    ),
    (
        "eu-1",
        "chat",
        UsageRow(meter="tool_calls", unit="call", quantity="1", t0_ms=END_MS - 8_000, t1_ms=END_MS - 8_000, **_ACT),
    ),
    (
        "eu-1",
        "chat",
        UsageRow(
            meter="external_spend",
            unit="USD",
            quantity="0.012500000001",
            t0_ms=END_MS - 7_000,
            t1_ms=END_MS - 7_000,
            **_ACT,
        ),
    ),
    (
        "eu-1",
        "chat",
        UsageRow(meter="search_spend", unit="EUR", quantity="0.5", t0_ms=END_MS - 7_000, t1_ms=END_MS - 7_000, **_S1),
    ),
    (
        "eu-1",
        "tools",
        UsageRow(
            meter="cpu_minutes",
            unit="min",
            quantity="0.25",
            t0_ms=END_MS - 6_000,
            t1_ms=END_MS - 1_000,
            tenant="acme",
            trace_id="t-1",
        ),
    ),
    ("eu-1", "chat", UsageRow("gpu_minutes", "min", "60", *_HOUR_MS, "acme", dimensions={"pod": "p-1", "node": "n1"})),
    ("eu-1", "chat", UsageRow("gpu_minutes", "min", "30.5", *_HOUR_MS, "acme", dimensions={"pod": "p-2"})),
    ("eu-1", "chat", UsageRow("gpu_minutes", "min", "15", *_HOUR_MS, "globex")),
    (
        "eu-1",
        "chat",
        UsageRow(meter="gpu_minutes", unit="h", quantity="1", t0_ms=END_MS - 1, t1_ms=END_MS - 1, tenant="globex"),
    ),
    (
        "sim-1",
        "chat",
        UsageRow(
            meter="gpu_minutes", unit="min", quantity="-5", t0_ms=_HOUR_MS[1], t1_ms=_HOUR_MS[1], tenant="initech"
        ),
    ),
    (
        "eu-1",
        "chat",
        UsageRow(
            meter="tool_calls", unit="call", quantity="4", t0_ms=END_MS - 5_000, t1_ms=END_MS - 5_000, session_id="s-1"
        ),
    ),
]
"""Metered quantities, those of agent session `s-1` first; the last has no tenant."""


def lay(warehouse: Warehouse, *, prices: bool = True) -> None:
    """Store both clusters' facts and ledger, the hourly table, tenants and clusters; with `prices`, those too."""
    sink = Sink(warehouse)
    _book(sink, REAL_SUBJECTS, REAL_GPUS, REAL_WORK, REAL_START_MS, END_MS, 10_000)
    _book(sink, SIM_SUBJECTS, SIM_GPUS, SIM_WORK, SIM_START_MS, END_MS, MS_PER_HOUR)
    put_tenants(
        warehouse,
        [
            Tenant("acme", "search", "CC-1"),
            Tenant("globex", "chatbots", "CC-2"),
            Tenant("initech", "chatbots", "CC-3", simulated=True),
        ],
    )
    put_clusters(warehouse, [Cluster("sim-1", simulated=True, note="SIMULATED"), Cluster("eu-1")])
    put_idle_floors(
        warehouse, [IdleFloor(f.hardware, 0, FOREVER_MS, f.idle_mw, f.version, "idle run") for f in POLICY.floors]
    )
    seed_defaults(warehouse)
    if prices:
        put_prices(warehouse, PRICES)
    lay_usage(warehouse, USAGE)


def lay_usage(warehouse: Warehouse, rows: list[tuple[str, str, UsageRow]]) -> None:
    """Store rows of (cluster, workload); each is a message of its own."""
    batch = core.UsageMicroBatch(LOG, core.UsageLimits())
    for n, (cluster, workload, row) in enumerate(rows):
        headers, value = codec.encode(Event("meter", 1, n, cluster, workload, usage_batch([row], 0)))
        batch.add(core.UsageMessage(0, n, END_MS, True, headers, value), END_MS)
    assert not batch.rejected
    warehouse.insert("usage", core.usage_rows(batch, np.ones(batch.rows, np.bool_)))


def provisional(warehouse: Warehouse, window_start_ms: int, tenant: str, energy_uj: int) -> None:
    """Store one provisional ledger row, as a worker revises it while its window is open."""
    zero = dict.fromkeys(("idle_uj", "unallocated_uj", "cached_tokens", "failures", "method", "revision", "deleted"), 0)
    warehouse.insert(
        "ledger",
        conform(
            "ledger",
            {
                "window_start": np.array([window_start_ms]),
                "cluster": "eu-1",
                "workload": "chat",
                "hardware": "H100",
                "model": "llama-70b",
                "tenant": tenant,
                "window_ms": 10_000,
                "active_uj": energy_uj,
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "work": 25_000,
                "requests": 1,
                "weights_version": 1,
                "floor_version": 7,
                "final": 0,
                "log_id": LOG,
                "log_partition": 0,
                "version": 1,
                **zero,
            },
        ),
    )


def mark(warehouse: Warehouse, final_end_ms: int) -> None:
    """Store a checkpoint: the log's partition 0 is final up to here."""
    warehouse.insert(
        "marks",
        conform(
            "marks",
            {
                "log_id": LOG,
                "log_partition": 0,
                "epoch": 1,
                "version": 1,
                "final_end": np.array([final_end_ms]),
                "power_offset": 1,
                "tokens_offset": 1,
                "state": "{}",
            },
        ),
    )


def _of(column: Sequence[str], index: Any) -> list[str]:
    """Gather a column of text by an array of indices."""
    return [column[i] for i in index]


def _book(sink: Sink, subjects, gpus, work, start_ms: int, end_ms: int, window_ms: int) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(20261101)
    windows = np.arange(start_ms, end_ms, window_ms)
    n, g, k = len(windows), len(gpus), len(work)
    hour = (windows // MS_PER_HOUR) % 24
    rhythm = 0.6 + 0.4 * np.sin((hour - 6) / 24 * 2 * np.pi)
    hardwares, models = sorted({x[2] for x in gpus}), sorted({x[1] for x in work})
    tenants = sorted({x[0] for x in work})

    watts = 120 + 500 * rhythm[:, None] * rng.uniform(0.8, 1.2, (n, g))
    energy = (watts * window_ms * 1000).astype(np.int64).ravel()
    w_gpu, gpu = np.repeat(windows, g), np.tile(np.arange(g), n)
    subject_of_gpu = np.array([x[3] for x in gpus])
    covered = np.full(n * g, window_ms)
    busy = np.where(gpu % 2 == 0, (window_ms * 0.7), -1).astype(np.int64)
    provenance: dict[str, Any] = {"log_id": LOG, "log_partition": 0, "version": 1, "deleted": 0}
    sink.write(
        "gpu_energy",
        conform(
            "gpu_energy",
            {
                "window_start": w_gpu,
                "cluster": subjects[0][0],
                "node": _of([x[0] for x in gpus], gpu),
                "gpu_uuid": _of([x[1] for x in gpus], gpu),
                "workload": _of([subjects[x[3]][1] for x in gpus], gpu),
                "late_id": 0,
                "window_ms": window_ms,
                "hardware": _of([x[2] for x in gpus], gpu),
                "owner": "",
                "method": 0,
                "energy_uj": energy,
                "covered_ms": covered,
                "busy_ms": busy,
                **provenance,
            },
        ),
    )

    w_tok, tenant_of_row = np.repeat(windows, k), np.tile(np.arange(k), n)
    scale = window_ms / 10_000 * np.repeat(rhythm, k)
    prompt = (rng.integers(2_000, 9_000, n * k) * scale).astype(np.int64)
    completion = (rng.integers(500, 2_500, n * k) * scale).astype(np.int64)
    cached, requests = prompt // 5, np.maximum(prompt // 500, 1)
    counted = {
        "prompt_tokens": prompt, "cached_tokens": cached, "completion_tokens": completion,
        "computed_mtok": (prompt - cached) * 1000, "cached_mtok": cached * 1000, "completion_mtok": completion * 1000,
        "request_ms": requests * 800, "requests": requests, "failures": requests // 50,
    }  # fmt: skip
    amounts = np.stack([counted.get(name, np.zeros_like(prompt)) for name in AMOUNTS])
    latencies = _latencies(requests)
    sink.write(
        "token_usage",
        conform(
            "token_usage",
            {
                "window_start": w_tok,
                "cluster": subjects[0][0],
                "workload": _of([subjects[x[2]][1] for x in work], tenant_of_row),
                "tenant": _of([x[0] for x in work], tenant_of_row),
                "model": _of([x[1] for x in work], tenant_of_row),
                "late_id": 0,
                "window_ms": window_ms,
                **dict(zip(AMOUNTS, amounts, strict=True)),
                **latencies.columns(len(requests)),
                **provenance,
            },
        ),
    )
    facts = Facts(
        subjects=subjects,
        hardwares=hardwares,
        owners=[""],
        tenants=tenants,
        products=[(model, *NO_PRODUCT[1:]) for model in models],
        energy=Energy(
            window_start=w_gpu,
            subject=subject_of_gpu[gpu],
            hardware=np.array([hardwares.index(x[2]) for x in gpus])[gpu],
            owner=np.zeros_like(gpu),
            energy_uj=energy,
            covered_ms=covered,
            method=np.zeros_like(gpu),
        ),
        tokens=Tokens(
            w_tok,
            np.array([x[2] for x in work])[tenant_of_row],
            np.array([tenants.index(x[0]) for x in work])[tenant_of_row],
            np.array([models.index(x[1]) for x in work])[tenant_of_row],
            amounts,
            latencies,
        ),
    )
    result = attribute(facts, POLICY)
    ledger: Table = conform(
        "ledger", {**result.ledger, "window_ms": window_ms, "revision": 0, "final": 1, **provenance}
    )
    sink.write("ledger", ledger)
    sink.refresh_hours(windows.tolist(), [subjects[0][0]], [s[1] for s in subjects])
    _requests(sink, ledger, window_ms)


def _latencies(requests: I64) -> HistogramCounts:
    """First tokens after 100 ms and requests of 800 ms, but one request of each row, which took 3 s."""
    rows = np.arange(len(requests))
    first, ordinary, long = (int(buckets_of(np.array([ms * 1000]))[0]) for ms in (100, 800, 3_000))
    duration = LATENCIES.index("request_duration") * MAX_BUCKETS
    return HistogramCounts.summed(
        np.concatenate([rows, rows, rows]),
        np.repeat([first, duration + ordinary, duration + long], len(rows)),
        np.concatenate([requests, requests - 1, np.ones_like(requests)]),
    )


def _requests(sink: Sink, ledger: Table, window_ms: int) -> None:
    """One request per row of the first twenty rows with tokens, of workloads on one hardware; it bears the row's
    energy.
    """
    alone = np.array([workload != "code" for workload in ledger["workload"]])
    at = np.flatnonzero((np.asarray(ledger["requests"]) > 0) & alone)[:20]

    def pick(column: str) -> Any:
        return np.asarray(ledger[column])[at]

    start = pick("window_start")
    milli = {
        name: np.zeros(len(at), np.int64) for name in ("computed_mtok", "cached_mtok", "completion_mtok", "request_ms")
    }
    sink.write(
        "request_energy",
        conform(
            "request_energy",
            {
                "tenant": pick("tenant").tolist(),
                "t_end": start + window_ms - 1,
                "request_id": [f"r{i}" for i in at],
                "window_start": start,
                "late_id": 0,
                "window_ms": window_ms,
                "cluster": pick("cluster").tolist(),
                "workload": pick("workload").tolist(),
                "model": pick("model").tolist(),
                "t_start": start,
                "session_id": "s-1",
                "trace_id": "",
                "status": "ok",
                "prompt_tokens": pick("prompt_tokens"),
                "cached_tokens": pick("cached_tokens"),
                "completion_tokens": pick("completion_tokens"),
                **milli,
                "active_uj": pick("active_uj"),
                "idle_uj": pick("idle_uj"),
                "log_id": LOG,
                "log_partition": 0,
                "version": 1,
                "deleted": 0,
            },
        ),
    )
