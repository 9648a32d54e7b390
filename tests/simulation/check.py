"""The verdict: the final warehouse, compared with the oracle's result for the sent events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from contracts.units import MS_PER_HOUR
from streams.core.checkpoint import Checkpoint
from tests.simulation.tables import AMOUNTS
from tests.simulation.traffic import Fate, Sent
from tests.simulation.worker import LOG_ID
from tests.support.oracle import Interval, Oracle, Request

if TYPE_CHECKING:
    from tests.simulation.run import Simulation

Rows = Mapping[tuple[Any, ...], tuple[Any, ...]]
_LEDGER = (
    "active_uj", "idle_uj", "unallocated_uj", "prompt_tokens", "cached_tokens", "completion_tokens", "requests",
    "failures",
)  # fmt: skip
_LEDGER_KEY = ("window_start", "cluster", "workload", "hardware", "tenant", "model")
_USAGE = (
    "prompt_tokens", "cached_tokens", "completion_tokens", "computed_mtok", "cached_mtok", "completion_mtok",
    "request_ms", "requests", "failures",
)  # fmt: skip
_USAGE_KEY = ("window_start", "cluster", "workload", "tenant", "model")
_REQUEST = ("prompt_tokens", "cached_tokens", "completion_tokens", "active_uj", "idle_uj")


def verdict(run: Simulation) -> str | None:
    """The first broken invariant, or None."""
    marks = _marks(run)
    intervals, requests, wrong = _expected(run, marks)
    if wrong:
        return wrong
    tables, settings = run.store.tables, run.plan.settings
    oracle = Oracle(settings.window_ms, run.plan.floors, idle=settings.idle_policy)
    ledger = oracle.ledger(intervals, requests)
    live = tables.live("ledger")
    energy, usage = tables.live("gpu_energy"), tables.live("token_usage")
    return (
        _differ("ledger", _of(live, _LEDGER_KEY, (*_LEDGER, "final")), {k: (*v, 1) for k, v in ledger.items()})
        or _differ("gpu_energy", _energy(energy), oracle.measured(intervals))
        or _differ("token_usage", _summed(usage, _USAGE_KEY, _USAGE), oracle.used(requests))
        or _differ(
            "request_energy",
            _summed(tables.live("request_energy"), (*_USAGE_KEY, "request_id"), _REQUEST),
            oracle.by_request(intervals, requests) if settings.requests == "all" else {},
        )
        or _differ("ledger_hour", _hours(tables.live_hours()), _by_hour(ledger))
        or _differ("revisions", _revisions(live), _late(live, energy, usage))
        or _differ("sources", _sources(run), _received(run, marks))
        or _bounded(run)
    )


# -- expected contents -------------------------------------------------------------------------------------------------


def _marks(run: Simulation) -> dict[int, Checkpoint]:
    rows = {p: run.store.tables.load_checkpoint(LOG_ID, p) for p in range(run.plan.partitions)}
    return {p: Checkpoint.load(row) for p, row in rows.items() if row}


def _expected(run: Simulation, marks: dict[int, Checkpoint]) -> tuple[list[Interval], list[Request], str | None]:
    """(intervals, requests) that count, each event once; or the error about the dead letters."""
    letters = set(run.around.letters)
    places: dict[int, list[tuple[str, int, int]]] = {}
    sent: dict[int, Sent] = {}
    for (topic, partition), appended in run.appended.items():
        for offset, one in appended:
            places.setdefault(id(one), []).append((topic, partition, offset))
            sent[id(one)] = one
    intervals: list[Interval] = []
    requests: list[Request] = []
    for key, one in sent.items():
        dead = [place in letters for place in places[key]]
        if one.fate is Fate.COUNTS and any(dead):
            return [], [], f"{one.name} became a dead letter, though nothing is wrong with it"
        counts = one.fate is Fate.COUNTS or (one.fate is Fate.EITHER and _seen(marks, one))
        if not counts and not all(dead):
            return [], [], f"{one.name} at {places[key]} is neither in the ledger nor a dead letter"
        if counts:
            intervals += one.intervals
            requests += one.requests
    return intervals, requests, None


def _seen(marks: dict[int, Checkpoint], one: Sent) -> bool:
    assert one.identity is not None
    source, epoch, seq = one.identity
    run = marks[one.partition].seen[one.topic].get((source, epoch)) if one.partition in marks else None
    return run is not None and seq in run


def _received(run: Simulation, marks: dict[int, Checkpoint]) -> Rows:
    """(topic, partition, source, epoch) -> (received, last_seq) of the events that count."""
    numbers: dict[tuple[Any, ...], set[int]] = {}
    for (topic, partition), appended in run.appended.items():
        for _, one in appended:
            if one.identity and (one.fate is Fate.COUNTS or (one.fate is Fate.EITHER and _seen(marks, one))):
                source, epoch, seq = one.identity
                numbers.setdefault((topic, partition, source, epoch), set()).add(seq)
    return {k: (len(n), max(n)) for k, n in numbers.items()}


def _late(ledger: list[dict[str, Any]], *facts: list[dict[str, Any]]) -> Rows:
    """Return how ledger rows with late facts differ: a row's revision is the number of its window's late messages."""
    late: dict[tuple[Any, ...], set[tuple[int, int]]] = {}
    for which, rows in enumerate(facts):
        for r in rows:
            if r["late_id"]:
                late.setdefault((r["window_start"], r["cluster"], r["workload"]), set()).add((which, r["late_id"]))
    subjects = [(r["window_start"], r["cluster"], r["workload"]) for r in ledger]
    return {s: (len(late.get(s, ())),) for s in subjects}


def _by_hour(ledger: Rows) -> Rows:
    out: dict[tuple[Any, ...], list[int]] = {}
    for (start, *tail), amounts in ledger.items():
        row = out.setdefault((start // MS_PER_HOUR * MS_PER_HOUR, *tail), [0] * (len(amounts) + 1))
        for i, amount in enumerate((*amounts, 1)):
            row[i] += amount
    return {k: tuple(v) for k, v in out.items()}


# -- actual contents ---------------------------------------------------------------------------------------------------


def _of(rows: list[dict[str, Any]], key: tuple[str, ...], columns: tuple[str, ...]) -> Rows:
    return {tuple(r[c] for c in key): tuple(r[c] for c in columns) for r in rows}


def _summed(rows: list[dict[str, Any]], key: tuple[str, ...], columns: tuple[str, ...]) -> Rows:
    """In-time and late facts together."""
    out: dict[tuple[Any, ...], list[int]] = {}
    for r in rows:
        total = out.setdefault(tuple(r[c] for c in key), [0] * len(columns))
        for i, column in enumerate(columns):
            total[i] += r[column]
    return {k: tuple(v) for k, v in out.items()}


def _energy(rows: list[dict[str, Any]]) -> Rows:
    out: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for r in rows:
        key = tuple(r[c] for c in ("window_start", "cluster", "workload", "node", "gpu_uuid"))
        uj, ms, hardware, owner = out.get(key, (0, 0, "", ""))
        out[key] = (uj + r["energy_uj"], ms + r["covered_ms"], max(hardware, r["hardware"]), max(owner, r["owner"]))
    return out


def _revisions(ledger: list[dict[str, Any]]) -> Rows:
    return {(r["window_start"], r["cluster"], r["workload"]): (r["revision"],) for r in ledger}


def _hours(hours: Rows) -> Rows:
    """Columns as in `_by_hour`: those of _LEDGER, and the number of windows."""
    at = [AMOUNTS.index(name) for name in _LEDGER]
    return {
        (h, c, w, hw, t, m): (*(row[i] for i in at), row[len(AMOUNTS)])
        for (h, c, w, hw, m, t, *_), row in hours.items()
    }


def _sources(run: Simulation) -> Rows:
    rows = run.store.tables.live("sources")
    return _of(rows, ("topic", "log_partition", "source", "epoch"), ("received", "last_seq"))


def _bounded(run: Simulation) -> str | None:
    """Reading stops at the bound: at most one step comes on top, and each event of it is small."""
    settings = run.plan.settings
    # A window is held in blocks of 64 rows for each of energy and tokens; a step of messages opens at most so many.
    limit = settings.max_open_rows + 4 * settings.batch_messages * 64 * 10
    if run.greatest_open_rows > limit:
        return f"{run.greatest_open_rows} rows were held open, {settings.max_open_rows} are the bound"
    return None


def _differ(subject: str, actual: Rows, expected: Rows) -> str | None:
    """Compare byte for byte, as JSON; return the rows that differ."""
    if _bytes(actual) == _bytes(expected):
        return None
    keys = [k for k in sorted({*actual, *expected}) if actual.get(k) != expected.get(k)]
    lines = [f"  {k}: {actual.get(k, 'missing')}, not {expected.get(k, 'there')}" for k in keys]
    return "\n".join([f"{subject} is not the oracle's:", *lines[:12]])


def _bytes(rows: Rows) -> bytes:
    return json.dumps(sorted([[*k], [*v]] for k, v in rows.items())).encode()
