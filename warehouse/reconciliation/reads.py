"""Reads the series of both witnesses from the warehouse, hour by hour. For operators.

Tokens: the ledger's hours (what gateways sent) and servers' own counters, which are rows of usage. Energy: counters and
integrated watts; GPUs and the meter at the wall. The ledger: windows, hours and days, computed from each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from contracts.meter_names import HOST_METER, SERVER_METERS, UNWATCHED_METER, WATTS_METER
from contracts.units import MS_PER_DAY, MS_PER_HOUR
from warehouse.reader import LedgerReader
from warehouse.reconciliation.judged_pair import RECENT_H, SETTLE_H
from warehouse.reconciliation.slurm_jobs import job_hours
from warehouse.reconciliation.witnesses import ENERGY, F64, Pair, Relation, Subject, Witnesses

WINDOW_H = 192
"""Hours that are read: eight days, so that each hour has the same one of the week before."""
MAX_ROWS = 2_000_000
"""Sums by hour, workload and tenant that one question reads at most; those behind are left out."""
_TOKENS = tuple(SERVER_METERS.values())
_PARTS = ("gpu_uj", "wall_less_uj", "wall_uj", "host_uj")
_EXACT = ("prompt_tokens", "completion_tokens", "requests", ENERGY)

_OF_NODES = {"wall": Relation.CONTAINED, "accelerators": Relation.METERED, "host": Relation.ALONG}

Key = tuple[Subject, str]
"""Subject and quantity."""


class _Series:
    """Amounts by subject, quantity and hour, and parts that reported."""

    def __init__(self, first_hour: int, hours: int) -> None:
        self._first, self._hours = first_hour, hours
        self._amounts: dict[Key, F64] = {}
        self._parts: dict[Key, F64] = {}

    def add(self, subject: Subject, quantity: str, hour_no: int, amount: float, parts: int = 0) -> None:
        at = hour_no - self._first
        if 0 <= at < self._hours:
            self._column(self._amounts, (subject, quantity))[at] += amount
            self._column(self._parts, (subject, quantity))[at] += parts

    def get(self, key: Key) -> F64:
        return self._amounts.get(key, np.zeros(self._hours))

    def parts(self, key: Key) -> F64 | None:
        column = self._parts.get(key)
        return column if column is not None and column.any() else None

    def known(self) -> list[Key]:
        return sorted(key for key, column in self._amounts.items() if column.any())

    def _column(self, columns: dict[Key, F64], key: Key) -> F64:
        return columns.setdefault(key, np.zeros(self._hours))


def read_witnesses(reader: LedgerReader, until_hour: int) -> Witnesses:
    """Return all pairs of the `WINDOW_H` hours before an hour (its number since 1970)."""
    first = until_hour - WINDOW_H
    span: dict[str, Any] = {"start_ms": first * MS_PER_HOUR, "end_ms": until_hour * MS_PER_HOUR, "limit": MAX_ROWS}
    servers, watts = _meters(reader, first, span)
    ledger = _Series(first, WINDOW_H)
    with_tenants = {subject._replace(tenant="") for subject, _ in servers.known() if subject.tenant}
    for row in reader.ask("reconciliation/hours", by_tenant=int(bool(with_tenants)), **span):
        workload = Subject(row["of_cluster"], row["of_workload"])
        for quantity in (*_TOKENS, *_PARTS):
            ledger.add(workload, quantity, row["hour_no"], row[quantity])
            if row["of_tenant"] and workload in with_tenants and quantity in _TOKENS:
                ledger.add(workload._replace(tenant=row["of_tenant"]), quantity, row["hour_no"], row[quantity])
    pairs = [*_token_pairs(ledger, servers), *_energy_pairs(ledger, watts), *_node_pairs(reader, first, span)]
    pairs += [*_job_pairs(reader, first, span), *_rollup_pairs(reader, until_hour)]
    references = {
        subject: ledger.get((subject, "gpu_uj")) for subject, quantity in ledger.known() if quantity == "gpu_uj"
    }
    return Witnesses(pairs, references)


def _meters(reader: LedgerReader, first: int, span: Mapping[str, Any]) -> tuple[_Series, _Series]:
    """Return what servers' counters and what watts say.

    Rows without a tenant are a workload's total; without any such row, the sum of its tenants is.
    Tenants are compared one by one where several are named. Energy that has no second witness counts with the watts: it
    is in the ledger too.
    """
    servers, watts = _Series(first, WINDOW_H), _Series(first, WINDOW_H)
    rows = reader.ask("reconciliation/meters", meters=[*SERVER_METERS, WATTS_METER, UNWATCHED_METER], **span)
    tenants: dict[Subject, set[str]] = defaultdict(set)
    watched = {Subject(row["of_cluster"], row["of_workload"]) for row in rows if row["of_meter"] == WATTS_METER}
    for row in rows:
        tenants[Subject(row["of_cluster"], row["of_workload"])].add(row["of_tenant"])
    for row in rows:
        workload, tenant = Subject(row["of_cluster"], row["of_workload"]), row["of_tenant"]
        if row["of_meter"] in (WATTS_METER, UNWATCHED_METER):
            if workload in watched:
                parts = row["parts"] if row["of_meter"] == WATTS_METER else 0
                watts.add(workload, ENERGY, row["hour_no"], row["amount"], parts)
            continue
        named, quantity = tenants[workload], SERVER_METERS[row["of_meter"]]
        if tenant and len(named) > 1:
            servers.add(workload._replace(tenant=tenant), quantity, row["hour_no"], row["amount"], row["parts"])
        if not tenant or "" not in named:
            servers.add(workload, quantity, row["hour_no"], row["amount"], row["parts"])
    return servers, watts


def _token_pairs(ledger: _Series, servers: _Series) -> Iterable[Pair]:
    """Yield pairs of all workloads of clusters where any server is read: one without may have another's tokens."""
    clusters = {subject.cluster for subject, _ in servers.known()}
    keys = {(subject, quantity) for subject, quantity in ledger.known() if quantity in _TOKENS}
    for key in sorted(keys | set(servers.known())):
        subject, quantity = key
        if subject.cluster in clusters:
            yield Pair(
                subject, quantity, Relation.COUNTED, "ledger", "servers", a=ledger.get(key), b=servers.get(key),
                b_parts=servers.parts(key),
            )  # fmt: skip


def _energy_pairs(ledger: _Series, watts: _Series) -> Iterable[Pair]:
    for subject, _ in watts.known():
        counter, second = ledger.get((subject, "gpu_uj")), (subject, ENERGY)
        yield Pair(
            subject, ENERGY, Relation.METERED, "counter", "watts", a=counter, b=watts.get(second),
            b_parts=watts.parts(second),
        )  # fmt: skip
    for subject, quantity in ledger.known():
        gpus, part = ledger.get((subject, "gpu_uj")), ledger.get((subject, quantity))
        if quantity == "wall_less_uj":
            # An hour without it has no wall: the meter is silent, or shows less than the GPUs in it.
            yield _beside_gpus(subject, gpus, "wall", np.where(part > 0, gpus + part, 0.0), Relation.CONTAINED)
        elif quantity == "wall_uj":
            yield _beside_gpus(subject, gpus, "whole wall", part, Relation.CONTAINED)
        elif quantity == "host_uj":
            yield _beside_gpus(subject, gpus, "host", part, Relation.ALONG)


def _beside_gpus(subject: Subject, gpus: F64, name: str, other: F64, relation: Relation) -> Pair:
    return Pair(subject, ENERGY, relation, "GPUs", name, a=gpus, b=other)


def _node_pairs(reader: LedgerReader, first: int, span: Mapping[str, Any]) -> Iterable[Pair]:
    """Yield GPUs beside what the host's own counters show of the node, of its accelerators and of its CPUs."""
    nodes = _Series(first, WINDOW_H)
    for row in reader.ask(
        "reconciliation/nodes", meters=[HOST_METER, WATTS_METER, UNWATCHED_METER], host=HOST_METER, **span
    ):
        nodes.add(Subject(row["of_cluster"], f"~{row['of_node']}"), row["of_part"], row["hour_no"], row["amount"])
    for subject, part in nodes.known():
        if relation := _OF_NODES.get(part):
            yield _beside_gpus(subject, nodes.get((subject, "GPUs")), part, nodes.get((subject, part)), relation)


def _job_pairs(reader: LedgerReader, first: int, span: Mapping[str, Any]) -> Iterable[Pair]:
    """Yield the GPUs' part of Slurm's jobs beside the whole, by the hour in which they ended."""
    gpus, slurm = _Series(first, WINDOW_H), _Series(first, WINDOW_H)
    for hour in job_hours(reader, span):
        gpus.add(hour.subject, ENERGY, hour.hour_no, hour.gpus_uj)
        slurm.add(hour.subject, ENERGY, hour.hour_no, hour.slurm_uj)
    for key in slurm.known():
        yield _beside_gpus(key[0], gpus.get(key), "Slurm", slurm.get(key), Relation.PART)


def _rollup_pairs(reader: LedgerReader, until_hour: int) -> Iterable[Pair]:
    """Yield windows beside hours of the hours that are judged, and hours beside days of the whole days in them."""
    start = until_hour - RECENT_H - SETTLE_H
    span: dict[str, Any] = {"start_ms": start * MS_PER_HOUR, "end_ms": until_hour * MS_PER_HOUR, "limit": MAX_ROWS}
    hours: dict[str, Any] = {"fragments": {"table": "ledger_hour", "time": "hour"}, "step_ms": MS_PER_HOUR}
    windows = _sums(lambda: reader.ask("reconciliation/windows", **span), start, until_hour)
    rollups = _sums(lambda: reader.ask("reconciliation/rollups", **hours, **span), start, until_hour)
    yield from _exact_pairs(windows, rollups, "ledger", "hours")
    first_ms, end_ms = (
        start * MS_PER_HOUR // MS_PER_DAY * MS_PER_DAY,
        until_hour * MS_PER_HOUR // MS_PER_DAY * MS_PER_DAY,
    )
    if first_ms < end_ms:
        of_days: dict[str, Any] = {"start_ms": first_ms, "end_ms": end_ms, "limit": MAX_ROWS}
        first_hour = first_ms // MS_PER_HOUR
        of_hours = _sums(lambda: reader.ask("reconciliation/rollups", **hours, **of_days), first_hour, until_hour)
        days = _sums(
            lambda: reader.ask(
                "reconciliation/rollups",
                fragments={"table": "ledger_day", "time": "day"},
                step_ms=MS_PER_DAY,
                **of_days,
            ),
            first_hour,
            until_hour,
        )
        yield from _exact_pairs(of_hours, days, "hours", "days", by_day=first_hour)


def _sums(ask: Callable[[], list[dict[str, Any]]], first_hour: int, until_hour: int) -> _Series:
    series = _Series(first_hour, until_hour - first_hour)
    for row in ask():
        for quantity in _EXACT:
            series.add(Subject(row["of_cluster"], row["of_workload"]), quantity, row["hour_no"], row[quantity])
    return series


def _exact_pairs(first: _Series, second: _Series, a: str, b: str, by_day: int | None = None) -> Iterable[Pair]:
    for key in sorted({*first.known(), *second.known()}):
        subject, quantity = key
        left, right = first.get(key), second.get(key)
        if by_day is not None:
            left = _at_day_ends(left, by_day)
        yield Pair(subject, quantity, Relation.EXACT, a, b, a=left, b=right)


def _at_day_ends(hours: F64, first_hour: int) -> F64:
    """Return the sums of days at the last hour of each; `first_hour` begins one."""
    days: dict[int, float] = defaultdict(float)
    for at, amount in enumerate(hours):
        days[at // 24] += float(amount)
    out = np.zeros(len(hours))
    for day, amount in days.items():
        if 24 * day + 23 < len(out):
            out[24 * day + 23] = amount
    return out
