"""A simulated fleet as two witnesses see it, for the tests of reconciliation. It shares no code with the judge.

Requests have a start, an end, a tenant and a pod. A gateway reports each with its times, and its tokens lie over the
time in which it ran. A server counts the prompt when it begins and the completion as it is made. A scraper sees its
counters at its next look: it has its own phase, misses looks for minutes, and loses what a restart took.

An honest fleet has days, weeks and empty nights, requests of an hour that cross several hours' edges, and heavy tails.
Clients give up, which the server alone counts. A workload begins, one ends, one is scaled. There are hours without
traffic, gateways whose events come hours late, sources that are added later, and power meters that are some percent
off. J/token depends on load.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
HOUR_S = 3600.0
TOKENS = ("prompt_tokens", "cached_tokens", "completion_tokens")
QUANTITIES = (*TOKENS, "requests")
GPUS = 8
LATE_H = 4


class Key(NamedTuple):
    """One series: who saw what of whom. `subject` is a workload, or ~NODE."""

    source: str
    quantity: str
    subject: str
    tenant: str = ""


@dataclass
class Requests:
    """Requests of one workload, as columns; times in seconds since the fleet's first hour."""

    start: F64
    end: F64
    tenant: npt.NDArray[np.int64]
    pod: npt.NDArray[np.int64]
    tokens: dict[str, F64]
    given_up: npt.NDArray[np.bool_]

    def take(self, which: Any) -> Requests:
        """Return some of the requests, or some of them several times."""
        return Requests(
            self.start[which], self.end[which], self.tenant[which], self.pod[which],
            {name: column[which] for name, column in self.tokens.items()}, self.given_up[which],
        )  # fmt: skip


@dataclass(frozen=True)
class Workload:
    """A workload: requests per hour at noon, seconds of a request, tokens, pods, its first and last day."""

    name: str
    per_hour: float
    seconds: float
    prompt: float
    completion: float
    cached: float
    pods: int
    tenants: tuple[str, ...]
    node: str
    from_day: float = 0.0
    to_day: float = 1e9
    bursts: bool = False


_COLUMNS = ("name", "per_hour", "seconds", "prompt", "completion", "cached", "pods", "tenants", "node")
_ROWS: tuple[tuple[tuple[Any, ...], dict[str, Any]], ...] = (
    (("chat", 2600, 9, 900, 260, 0.35, 3, ("acme", "globex", "initech"), "n1"), {}),
    (("code", 900, 20, 3500, 420, 0.5, 2, ("acme", "globex"), "n2"), {}),
    (("embed", 20000, 0.3, 300, 0, 0.0, 1, ("acme", "umbrella"), "n3"), {}),
    (("batch", 120, 1500, 5000, 3000, 0.1, 2, ("initech",), "n4"), {"bursts": True}),
    (("rag", 500, 14, 6000, 300, 0.2, 2, ("umbrella", "globex"), "n5"), {"from_day": 9.4}),
    (("old", 300, 8, 700, 200, 0.2, 1, ("acme",), "n6"), {"to_day": 17.7}),
)
WORKLOADS = tuple(Workload(**dict(zip(_COLUMNS, row, strict=True)), **more) for row, more in _ROWS)


@dataclass
class View:
    """Series by key, each with one value per hour, and the numbers of parts that report (GPUs, pages)."""

    series: dict[Key, F64] = field(default_factory=dict)
    parts: dict[tuple[str, str], F64] = field(default_factory=dict)
    """By (source, subject)."""


def build(seed: int, days: int, fault: str = "", onset_h: int = 0) -> View:
    """Return what all witnesses saw in so many days. A fault acts from `onset_h` on (`faults.FAULTS`)."""
    from tests.warehouse.reconciliation import faults

    rng = np.random.default_rng([seed, 20261130])
    hours = 24 * days
    view, truth = View(), {}
    maintenance = rng.integers(3, 28)
    for workload in WORKLOADS:
        truth[workload.name] = _requests(rng, workload, hours, maintenance, seed % 7)
    acts = faults.FAULTS[fault] if fault else faults.Fault("", "")
    onset_s = onset_h * HOUR_S + rng.uniform(0, HOUR_S)
    for workload in WORKLOADS:
        requests = truth[workload.name]
        finished = requests.take(~requests.given_up)
        _gateway(rng, view, workload, acts.gateway(rng, finished, onset_s, workload), hours)
        _servers(rng, view, workload, requests, hours, acts, onset_s)
        _tenants(rng, view, workload, finished, hours)
        _energy(rng, view, workload, hours, truth[workload.name])
    _rollups(view)
    if not fault:
        _begin_later(view)
    acts.series(rng, view, onset_h)
    return view


def _begin_later(view: View) -> None:
    """Let witnesses that are added while the fleet runs say nothing before."""
    for source, subject, day in (("servers", "embed", 12.4), ("watts", "code", 15.6)):
        for key, column in view.series.items():
            if (key.source, key.subject) == (source, subject):
                column[: int(24 * day)] = 0


def late(view: View, now_h: int, seed: int) -> View:
    """Return the view at an hour: of the last hours, some of the gateway's events have not come yet."""
    rng = np.random.default_rng([seed, now_h])
    series = {key: column[:now_h].copy() for key, column in view.series.items()}
    for key, column in series.items():
        if key.source in ("ledger", "hours", "days"):
            column[-LATE_H:] = np.floor(column[-LATE_H:] * rng.choice([1.0, 0.9, 0.3, 0.0], len(column[-LATE_H:])))
    return View(series, {key: column[:now_h] for key, column in view.parts.items()})


def _requests(rng: np.random.Generator, w: Workload, hours: int, maintenance: int, weekday: int) -> Requests:
    hour = np.arange(hours)
    rhythm = 0.5 + 0.5 * np.sin((hour % 24 - 7) / 24 * 2 * np.pi)
    weekend = np.where((hour // 24 + weekday) % 7 >= 5, 0.35, 1.0)
    rate = w.per_hour * (0.03 + rhythm**2) * weekend * rng.lognormal(0, 0.1, hours)
    if w.bursts:
        rate = w.per_hour * np.where(rng.random(hours) < 0.12, rng.uniform(1, 6, hours), 0.0)
    if w.name == "chat":
        rate[(hour >= 24 * maintenance + 1) & (hour < 24 * maintenance + 4)] = 0
    rate[(hour < w.from_day * 24) | (hour >= w.to_day * 24)] = 0
    count = rng.poisson(rate)
    n = int(count.sum())
    end = np.repeat(hour, count) * HOUR_S + rng.uniform(0, HOUR_S, n)
    seconds = np.minimum(rng.lognormal(np.log(w.seconds), 0.6, n), 5 * HOUR_S)
    prompt = np.ceil(rng.lognormal(np.log(w.prompt), 1.0, n))
    cached = np.floor(prompt * np.clip(rng.beta(2, 3, n) * 2.5 * w.cached, 0, 0.95))
    completion = np.ceil(rng.lognormal(np.log(w.completion), 0.8, n)) if w.completion else np.zeros(n)
    # The number of pods changes: a third one of `chat` runs on working days only.
    pods = np.full(n, w.pods)
    if w.name == "chat":
        pods = np.where(((end // HOUR_S // 24 + weekday) % 7 >= 5), w.pods - 1, w.pods)
    return Requests(
        np.maximum(end - seconds, 0), end, rng.choice(len(w.tenants), n, p=_shares(len(w.tenants))),
        (rng.random(n) * pods).astype(np.int64),
        {"prompt_tokens": prompt, "cached_tokens": cached, "completion_tokens": completion}, rng.random(n) < 0.0002,
    )  # fmt: skip


def _shares(n: int) -> F64:
    shares = 0.6 ** np.arange(n)
    return np.asarray(shares / shares.sum())


def spread(start: F64, end: F64, amount: F64, edges: F64, hours: int) -> F64:
    """Return an amount by hour, evenly over the time between start and end. `edges` are the hours' ends, increasing."""
    out = np.zeros(hours + 1)
    first = np.searchsorted(edges, start, side="right")
    length, counted = np.maximum(end - start, 1e-9), np.zeros(len(start))
    for k in range(7):
        at = np.minimum(first + k, hours)
        until = np.where(at < hours, edges[np.minimum(at, hours - 1)], np.inf)
        total = np.round(amount * np.clip((until - start) / length, 0, 1))
        np.add.at(out, at, total - counted)
        counted = total
        if (until >= end).all():
            break
    return out[:hours]


def _gateway(rng: np.random.Generator, view: View, w: Workload, sent: Mapping[str, Requests], hours: int) -> None:
    """Add what the ledger counts: of each workload and tenant that the gateway names."""
    edges = (np.arange(hours) + 1) * HOUR_S
    for name, requests in sent.items():
        for tenant in {*w.tenants, *(["lost+found"] if (requests.tenant >= len(w.tenants)).any() else [])}:
            index = w.tenants.index(tenant) if tenant in w.tenants else len(w.tenants)
            some = requests.take(requests.tenant == index)
            if not len(some.end):
                continue
            for quantity in TOKENS:
                if some.tokens[quantity].any():
                    column = spread(some.start, some.end, some.tokens[quantity], edges, hours)
                    _add(view, Key("ledger", quantity, name, tenant), column)
                    _add(view, Key("ledger", quantity, name), column)
            ended = _count(some.end, edges, hours)
            _add(view, Key("ledger", "requests", name, tenant), ended)
            _add(view, Key("ledger", "requests", name), ended)


def _count(at: F64, edges: F64, hours: int, weight: F64 | None = None) -> F64:
    index = np.searchsorted(edges, at, side="right")
    return np.asarray(np.bincount(np.minimum(index, hours), weights=weight, minlength=hours + 1)[:hours], np.float64)


def _scrape_edges(rng: np.random.Generator, hours: int) -> F64:
    """Return until when each hour's last look sees: a part of the interval before its end, sometimes minutes before."""
    interval = rng.choice([10.0, 15.0, 30.0])
    before = (rng.uniform(0, interval) + rng.normal(0, 0.4, hours)) % interval
    missed = rng.random(hours) < 0.01
    before = np.where(missed, rng.uniform(60, 420, hours), before)
    return np.asarray((np.arange(hours) + 1) * HOUR_S - before)


def _servers(
    rng: np.random.Generator, view: View, w: Workload, requests: Requests, hours: int, acts: Any, onset_s: float
) -> None:
    """Add what the counters of a workload's pods show."""
    for pod in range(w.pods):
        edges = _scrape_edges(rng, hours)
        some = requests.take(requests.pod == pod)
        restarts = rng.uniform(0, hours * HOUR_S, rng.poisson(hours / 24 / 6))
        lost = np.zeros(len(some.end), np.bool_)
        for at in restarts:  # What was counted since the last look is gone.
            lost |= (some.end > at - rng.uniform(0, 20)) & (some.end <= at)
        some = acts.servers(rng, some.take(~lost), onset_s, pod, w)
        alive = _count(some.end, edges, hours) > 0
        view.parts["servers", w.name] = view.parts.get(("servers", w.name), np.zeros(hours)) + alive
        for quantity in ("prompt_tokens", "cached_tokens"):
            if requests.tokens[quantity].any():
                _add(view, Key("servers", quantity, w.name), _count(some.start, edges, hours, some.tokens[quantity]))
        if w.completion:
            column = spread(some.start, some.end, some.tokens["completion_tokens"], edges, hours)
            _add(view, Key("servers", "completion_tokens", w.name), column)
        _add(view, Key("servers", "requests", w.name), _count(some.end, edges, hours))


def _tenants(rng: np.random.Generator, view: View, w: Workload, requests: Requests, hours: int) -> None:
    """Add what the gateway's own counters show of each tenant."""
    edges = _scrape_edges(rng, hours)
    for index, tenant in enumerate(w.tenants):
        some = requests.take(requests.tenant == index)
        _add(view, Key("servers", "requests", w.name, tenant), _count(some.end, edges, hours))
        for quantity in ("prompt_tokens", "completion_tokens"):
            if some.tokens[quantity].any():
                column = _count(some.end, edges, hours, some.tokens[quantity])
                _add(view, Key("servers", quantity, w.name, tenant), column)


def _energy(rng: np.random.Generator, view: View, w: Workload, hours: int, requests: Requests) -> None:
    """Add the energy of a workload's GPUs by counter and by watts, and its node's GPUs and wall, in µJ."""
    edges = (np.arange(hours) + 1) * HOUR_S
    work = spread(requests.start, requests.end, requests.tokens["prompt_tokens"], edges, hours)
    work = work + 3 * spread(requests.start, requests.end, requests.tokens["completion_tokens"], edges, hours)
    full = max(float(np.quantile(work, 0.99)), 1.0)
    load = work / full
    watts = GPUS * (85 + 420 * load**0.85 * rng.lognormal(0, 0.04, hours))
    energy = np.round(watts * HOUR_S * 1e6)
    bias = rng.uniform(0.97, 1.03)
    view.series[Key("counter", "energy_uj", w.name)] = energy
    view.series[Key("watts", "energy_uj", w.name)] = np.round(energy * bias * rng.normal(1, 0.004, hours))
    node = f"~{w.node}"
    view.series[Key("gpus", "energy_uj", node)] = energy.copy()
    fans = 1.10 + 0.04 * np.minimum(load, 1)
    wall = (rng.uniform(300, 700) * HOUR_S * 1e6 + fans * energy) * rng.normal(1, 0.01, hours)
    view.series[Key("wall", "energy_uj", node)] = np.round(wall)
    view.parts["counter", w.name] = view.parts["gpus", node] = np.full(hours, float(GPUS))


def _rollups(view: View) -> None:
    """Add the tables of hours and of days, which say the same as the ledger's windows."""
    for key in [key for key in view.series if key.source == "ledger" and not key.tenant]:
        view.series[Key("hours", key.quantity, key.subject)] = view.series[key].copy()
        view.series[Key("days", key.quantity, key.subject)] = view.series[key].copy()


def _add(view: View, key: Key, column: F64) -> None:
    view.series[key] = view.series.get(key, np.zeros(len(column))) + column
