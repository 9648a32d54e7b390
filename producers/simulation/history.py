"""The SIMULATED past of the simulated fleet, by the hour: months of what its agents and gateways would have sent.

It has the clusters, GPUs, models, tenants, rhythms and power of `events`, without single requests: counts are
Poisson about the same rates, tokens their sums, and power that of the hour's mean load. Demand grows tenant by
tenant up to the level of the live stream, which continues where this ends. Two anomalies are planted, and
reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from contracts.columns import I64
from contracts.errors import BadInput
from contracts.events import TOKENS, Method
from contracts.rows import Table
from contracts.units import MS_PER_DAY, MS_PER_HOUR
from producers.simulation.fleet import (
    F64,
    FleetSpec,
    SimulatedModel,
    SimulatedTenant,
    SimulatedWorkload,
    busy,
    default_spec,
    watts,
)

MONTH_MS = 30 * MS_PER_DAY
REGRESSION = 1.6
"""Factor of the planted regression: power above idle for the same tokens."""
SPIKE = 4.0
"""Factor of the planted spike: requests of a tenant."""


@dataclass(slots=True, frozen=True)
class PlantedAnomaly:
    """An anomaly that is there on purpose: its kind, the cluster, workload and tenant ("" for all), its time and its
    factor.
    """

    kind: str
    cluster: str
    workload: str
    tenant: str
    start_ms: int
    end_ms: int
    factor: float
    note: str


@dataclass(slots=True, frozen=True)
class SimulatedHistory:
    """Facts of `[start_ms, end_ms)`, as columns of `contracts.rows` without provenance, sorted by `window_start`."""

    start_ms: int
    end_ms: int
    gpu_energy: Table
    token_usage: Table
    planted: tuple[PlantedAnomaly, ...]


def history(
    seed: int, start_ms: int, months: int = 4, *, spec: FleetSpec | None = None, end_ms: int | None = None
) -> SimulatedHistory:
    """Return the hours from `start_ms` for so many calendar months, or up to `end_ms`. Both must be full hours, else
    BadInput.

    Every GPU has a row for each hour (`covered_ms` is the hour's length, method COUNTER). Every workload and
    tenant has a row of tokens for each hour with requests.
    """
    end_ms = months_later(start_ms, months) if end_ms is None else end_ms
    for name, value in (("start_ms", start_ms), ("end_ms", end_ms)):
        if value % MS_PER_HOUR or value < 0:
            raise BadInput(name, value, "give a full hour in UTC epoch milliseconds")
    if end_ms <= start_ms:
        raise BadInput("end_ms", end_ms, f"must lie after start_ms, {start_ms}")
    spec = spec or default_spec()
    hours = np.arange(start_ms, end_ms, MS_PER_HOUR)
    planted = _plant(spec, start_ms, end_ms)
    tokens, loads = [], {}
    for place, workload in enumerate(spec.workloads):
        rng = np.random.default_rng([seed, 1, place])
        demand = np.zeros(len(hours))
        for tenant, _ in workload.shares:
            table, tenant_demand = _tenant_hours(workload, tenant, hours, end_ms, planted, rng)
            tokens.append(table)
            demand += tenant_demand
        loads[(workload.cluster, workload.name)] = demand / 3600 / workload.capacity
    return SimulatedHistory(start_ms, end_ms, _energy(seed, spec, hours, loads, planted), _by_time(tokens), planted)


def months_later(start_ms: int, months: int) -> int:
    """Return the same day and time some calendar months later, or the last day of a month that lacks the day."""
    start = datetime.fromtimestamp(start_ms / 1000, UTC)
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    first = datetime(year, month + 1, 1, tzinfo=UTC)
    following = datetime(year + (month == 11), (month + 1) % 12 + 1, 1, tzinfo=UTC)
    day = min(start.day, (following - first).days)
    last_day = first.replace(day=day, hour=start.hour, minute=start.minute, second=start.second)
    return int(last_day.timestamp()) * 1000 + start_ms % 1000


def _plant(spec: FleetSpec, start_ms: int, end_ms: int) -> tuple[PlantedAnomaly, ...]:
    """Return a regression of two days at about six tenths of the time, and a spike of a day at about eight tenths."""

    def day(part: float) -> int:
        at = start_ms + int((end_ms - start_ms) * part)
        return at - at % MS_PER_DAY

    served = spec.workloads[0]
    tenant = min(spec.tenants, key=lambda t: t.joined)  # a tenant from the start
    slow, spike = day(0.6) + 9 * MS_PER_HOUR, day(0.8)
    spike += {5: 2, 6: 1}.get((spike // MS_PER_DAY + 3) % 7, 0) * MS_PER_DAY  # moved from a quiet weekend to Monday
    return (
        PlantedAnomaly(
            kind="energy_per_token",
            cluster=served.cluster,
            workload=served.name,
            tenant="",
            start_ms=slow,
            end_ms=slow + 50 * MS_PER_HOUR,
            factor=REGRESSION,
            note=f"SIMULATED: {served.cluster}/{served.name} draws {REGRESSION:g} times its power above idle "
            "for 50 hours",
        ),
        PlantedAnomaly(
            kind="tenant_spike",
            cluster="",
            workload="",
            tenant=tenant.name,
            start_ms=spike,
            end_ms=spike + MS_PER_DAY,
            factor=SPIKE,
            note=f"SIMULATED: {tenant.name} sends {SPIKE:g} times its requests for a day",
        ),
    )


def _tenant_hours(
    workload: SimulatedWorkload,
    tenant: SimulatedTenant,
    hours: I64,
    end_ms: int,
    planted: Sequence[PlantedAnomaly],
    rng: np.random.Generator,
) -> tuple[Table, F64]:
    """Return one tenant's hours on one workload, and their demand in H100-seconds at unit load."""
    model = workload.model
    rate = workload.requests_per_s(tenant, hours + MS_PER_HOUR // 2) * 3600
    rate *= (1 + tenant.growth) ** ((hours - end_ms) / MONTH_MS)
    rate *= hours >= hours[0] + tenant.joined * (end_ms - hours[0])
    for event in planted:
        if event.tenant == tenant.name:
            rate = np.where((hours >= event.start_ms) & (hours < event.end_ms), rate * event.factor, rate)
    requests = rng.poisson(rate * rng.lognormal(-0.005, 0.1, len(hours)))
    prompt = _sum_of(requests, model.prompt_tokens, 0.8, rng)
    cached = np.minimum(np.rint(prompt * model.cached_ratio * rng.normal(1, 0.03, len(hours))), prompt).astype(np.int64)
    completion = _sum_of(requests, model.completion_tokens, 0.7, rng)
    failures = rng.binomial(requests, 0.004)
    some = requests > 0
    columns = {
        "window_start": hours,
        **dict.fromkeys(TOKENS, np.zeros_like(requests)),  # Declared columns that are not simulated stay 0.
        "prompt_tokens": prompt, "cached_tokens": cached, "completion_tokens": completion,
        "computed_mtok": (prompt - cached) * 1000, "cached_mtok": cached * 1000, "completion_mtok": completion * 1000,
        "request_ms": np.zeros_like(requests), "requests": requests, "failures": failures,
    }  # fmt: skip
    table: Table = {name: column[some].astype(np.int64) for name, column in columns.items()}
    n = int(some.sum())
    table |= {"window_ms": np.full(n, MS_PER_HOUR, np.int64)}
    table |= {"cluster": [workload.cluster] * n, "workload": [workload.name] * n}
    table |= {"tenant": [tenant.name] * n, "model": [model.name] * n}
    return table, _demand(model, prompt - cached, completion)


def _demand(model: SimulatedModel, computed: I64, completion: I64) -> F64:
    demand: F64 = computed / model.prefill_tps + completion / model.decode_tps
    return demand


def _sum_of(requests: I64, mean: float, sigma: float, rng: np.random.Generator) -> I64:
    """Return the sums of so many lognormal token counts: their mean, and the spread that remains of so many."""
    relative = np.sqrt(np.expm1(sigma * sigma) / np.maximum(requests, 1))
    drawn = requests * mean * (1 + relative * rng.normal(0, 1, len(requests)).clip(-3, 3))
    token_sums: I64 = np.maximum(np.rint(drawn), requests).astype(np.int64)
    return token_sums


def _energy(
    seed: int, spec: FleetSpec, hours: I64, loads: dict[tuple[str, str], F64], planted: Sequence[PlantedAnomaly]
) -> Table:
    """Return a row for each GPU and hour, hour by hour."""
    groups = [(g, name, owner) for *_, name, owner, _, gpus in spec.groups() for g in gpus]
    gpus = len(groups)
    rng = np.random.default_rng([seed, 2])
    efficiency = rng.normal(1.0, 0.02, gpus).clip(0.95, 1.05)
    energy, used_ms = np.empty((len(hours), gpus), np.int64), np.empty((len(hours), gpus), np.int64)
    for place, (gpu, name, _) in enumerate(groups):
        load = loads.get((gpu.cluster, name))
        used = busy(load) if load is not None else np.zeros(len(hours))
        drawn = watts(gpu.hardware, used) * efficiency[place] * rng.normal(1.0, 0.005, len(hours))
        for event in planted:
            if (event.cluster, event.workload) == (gpu.cluster, name):
                hit = (hours >= event.start_ms) & (hours < event.end_ms)
                idle_w = gpu.hardware.idle_mw / 1000
                drawn = np.where(hit, idle_w + (drawn - idle_w) * event.factor, drawn)
        # W x s x 1e6 = uJ, in whole millijoules like a counter's.
        energy[:, place] = np.rint(np.minimum(drawn, gpu.hardware.max_w) * 3_600_000).astype(np.int64) * 1000
        used_ms[:, place] = np.rint(used * MS_PER_HOUR)
    n, every = len(hours) * gpus, len(hours)
    hour_ms = np.full(n, MS_PER_HOUR, np.int64)
    return {
        "window_start": np.repeat(hours, gpus),
        "cluster": [g.cluster for g, _, _ in groups] * every,
        "node": [g.node for g, _, _ in groups] * every,
        "gpu_uuid": [g.uuid for g, _, _ in groups] * every,
        "workload": [name for _, name, _ in groups] * every,
        "window_ms": hour_ms,
        "hardware": [g.hardware.name for g, _, _ in groups] * every,
        "owner": [owner for _, _, owner in groups] * every,
        "method": np.full(n, Method.COUNTER, np.uint8),
        "energy_uj": energy.ravel(),
        "covered_ms": hour_ms,
        "busy_ms": used_ms.ravel(),
    }


def _by_time(tables: Sequence[Table]) -> Table:
    """Return tables of the same columns as one, sorted by `window_start`."""
    order = np.argsort(np.concatenate([np.asarray(t["window_start"]) for t in tables]), kind="stable")
    joined: Table = {}
    for name, column in tables[0].items():
        if isinstance(column, np.ndarray):
            joined[name] = np.concatenate([np.asarray(t[name]) for t in tables])[order]
        else:
            texts = np.asarray([text for t in tables for text in t[name]], object)
            joined[name] = texts[order].tolist()
    return joined
