"""Rows under a bill: the fleet's nodes, the ledger's rows, GPUs' intervals, requests, and the newest windows.

Readers, periods, pages and errors are as in `chargeback_queries`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from contracts.events import DIMENSIONS
from contracts.units import MS_PER_HOUR, EpochMs
from warehouse.chargeback.chargeback_queries import joules_per
from warehouse.chargeback.rollups import hours_or_windows
from warehouse.cursors import Page, PageRequest
from warehouse.filters import Filter
from warehouse.periods import Period
from warehouse.reader import LedgerReader
from warehouse.results import METHODS, FleetRow, GpuInterval, GpuOfWindow, LatestRow, LedgerRow, RequestEnergyRow

_ALL = Filter()
_SEPARATOR = "\x1f"
"""Between dimensions in a sort key: no text has it, as it is not printable."""
_FIRST_PAGE = PageRequest()

LATEST_WINDOWS_MS = 5 * 60_000
"""Time before the newest window's end that `latest` covers."""
_GROWTH = 8
"""Factor by which each span of time that is searched for a page is longer than the one before."""
_FIRST_SPAN_MS = {"ledger": 600_000, "request_energy": 1_000}
"""Length of the first span, by table: a range of the ledger's sort key; of requests, a page of a large fleet."""
_ENDS_AFTER_MS = {"ledger": 0, "request_energy": 7 * MS_PER_HOUR}
"""Time after its window's start in which a row may count: requests count by their end."""


def _oldest_first(
    reader: LedgerReader,
    table: str,
    period: Period,
    after_ms: int,
    limit: int,
    ask: Callable[[int, int, int], list[dict[str, Any]]],
) -> list[dict[str, Any]]:
    """Return the first `limit` rows of a period, by `ask(start_ms, end_ms, limit)` over spans of growing length.

    A page is a small part of most periods, and tables are sorted by tenant before time. So only as much time is read
    as fills the page.
    """
    (stored,) = reader.ask("ledger/extremes", fragments={"table": table})
    at, span = max(period.start, after_ms, stored["oldest"]), _FIRST_SPAN_MS[table]
    end_ms = min(period.end, stored["newest"] + _ENDS_AFTER_MS[table] + 1)
    rows: list[dict[str, Any]] = []
    while at < end_ms and len(rows) < limit:
        until = min(at - at % span + span, end_ms)
        rows += ask(at, until, limit - len(rows))
        at, span = until, span * _GROWTH
    return rows


def fleet(
    reader: LedgerReader, period: Period, filter: Filter = _ALL, page: PageRequest = _FIRST_PAGE
) -> Page[FleetRow]:
    """Return energy, mean power, utilisation, idle and unallocated ratios by cluster, node and hardware, as measured.

    For operators: nodes are shared by tenants.
    """
    question = ("fleet", period, filter)
    after = page.after(question, [str, str, str])
    cut = after or ["", "", ""]
    rows = reader.ask(
        "ledger/fleet",
        filter,
        fragments=hours_or_windows(period),
        start_ms=period.start,
        end_ms=period.end,
        first=int(after is None),
        after_cluster=cut[0],
        after_node=cut[1],
        after_hardware=cut[2],
        limit=page.limit + 1,
    )
    return page.cut(question, [_fleet_row(row) for row in rows], lambda r: [r.cluster, r.node, r.hardware])


def _fleet_row(row: Mapping[str, Any]) -> FleetRow:
    energy_uj, covered_ms = row["energy_uj"], row["covered_ms"]
    return FleetRow(
        cluster=row["cluster"],
        node=row["node"],
        hardware=row["hardware"],
        gpus=row["gpus"],
        energy_uj=energy_uj,
        gpu_seconds=row["gpu_ms"] / 1000,
        mean_w=energy_uj / covered_ms / 1000 if covered_ms else None,  # 1 µJ/ms = 1 mW
        utilisation_ratio=row["utilisation_ratio"],
        idle_ratio=row["idle_uj"] / row["known_uj"] if row["known_uj"] else None,
        unallocated_ratio=row["unallocated_uj"] / energy_uj if energy_uj else 0.0,
        method=METHODS[row["method"]],
        simulated=bool(row["simulated"]),
    )


def ledger_rows(
    reader: LedgerReader,
    period: Period,
    filter: Filter = _ALL,
    page: PageRequest = _FIRST_PAGE,
    *,
    provisional: bool = False,
) -> Page[LedgerRow]:
    """Return the windows behind a bill, oldest first. `provisional` adds windows that are still open."""
    question = ("ledger", period, reader.narrow(filter), provisional)
    after = page.after(question, [int, str, str, str, str, str, str])
    names = [f"after_{name}" for name in ("ms", "tenant", "cluster", "workload", "model", "hardware", "dimensions")]
    cut: dict[str, Any] = dict(zip(names, after or [period.start - 1, *[""] * 6], strict=True))

    def ask(start_ms: int, end_ms: int, limit: int) -> list[dict[str, Any]]:
        return reader.ask(
            "ledger/rows",
            filter,
            start_ms=start_ms,
            end_ms=end_ms,
            provisional=int(provisional),
            limit=limit,
            **cut,
        )

    rows = _oldest_first(reader, "ledger", period, cut["after_ms"], page.limit + 1, ask)
    return page.cut(
        question,
        [ledger_row(row) for row in rows],
        lambda r: [
            r.window_start,
            r.tenant,
            r.cluster,
            r.workload,
            r.model,
            r.hardware,
            _SEPARATOR.join(getattr(r, name) for name in DIMENSIONS),
        ],
    )


def ledger_row(row: Mapping[str, Any]) -> LedgerRow:
    """Return a row of ClickHouse as its type."""
    fields = {name: row[name] for name in LedgerRow.__dataclass_fields__ if name in row}
    fields |= {
        "energy_uj": row["active_uj"] + row["idle_uj"] + row["unallocated_uj"],
        "method": METHODS[row["method"]],
        "final": bool(row["final"]),
        "simulated": bool(row["simulated"]),
    }
    return LedgerRow(**fields)


def intervals(
    reader: LedgerReader, window_start_ms: int, cluster: str, workload: str, page: PageRequest = _FIRST_PAGE
) -> Page[GpuInterval] | Page[GpuOfWindow]:
    """Return what each GPU measured in one window for one workload.

    A tenant gets the GPUs where it has a row itself, and not their energy: less its own, that is what others drew.
    """
    filter = Filter(cluster=cluster, workload=workload)
    question = ("intervals", window_start_ms, reader.narrow(filter))
    after = page.after(question, [str, str, int])
    cut = after or ["", "", 0]
    rows = reader.ask(
        "ledger/intervals",
        filter,
        window_ms=window_start_ms,
        first=int(after is None),
        after_node=cut[0],
        after_gpu=cut[1],
        after_late=cut[2],
        limit=page.limit + 1,
    )
    measured = page.cut(question, [interval(row) for row in rows], lambda r: [r.node, r.gpu_uuid, r.late_id])
    if reader.tenants is None:
        return measured
    names = [field.name for field in fields(GpuOfWindow)]
    return Page([GpuOfWindow(**{name: getattr(row, name) for name in names}) for row in measured.rows], measured.next)


def interval(row: Mapping[str, Any]) -> GpuInterval:
    """Return a row of ClickHouse as its type."""
    return GpuInterval(
        **{
            **row,
            "busy_ms": row["busy_ms"] if row["busy_ms"] >= 0 else None,
            "method": METHODS[row["method"]],
            "late": row["late_id"] != 0,
            "simulated": bool(row["simulated"]),
        }
    )


_REQUEST_CURSOR = {
    "after_ms": int, "after_tenant": str, "after_cluster": str, "after_workload": str, "after_model": str,
    "after_request": str, "after_start": int,
}  # fmt: skip


def requests(
    reader: LedgerReader, period: Period, filter: Filter = _ALL, page: PageRequest = _FIRST_PAGE
) -> Page[RequestEnergyRow]:
    """Return requests that ended in a period, oldest first, with the energy of the windows that they ran in.

    Rows live for 30 days from when they were stored.
    """
    question = ("requests", period, reader.narrow(filter))
    after = page.after(question, list(_REQUEST_CURSOR.values()))
    first = [period.start - 1, "", "", "", "", "", 0]
    cut: dict[str, Any] = dict(zip(_REQUEST_CURSOR, after or first, strict=True))

    def ask(start_ms: int, end_ms: int, limit: int) -> list[dict[str, Any]]:
        return reader.ask("ledger/requests", filter, start_ms=start_ms, end_ms=end_ms, limit=limit, **cut)

    rows = _oldest_first(reader, "request_energy", period, cut["after_ms"], page.limit + 1, ask)
    unmetered = _unmetered(reader, filter, rows)
    return page.cut(
        question,
        [_request_row(row, unmetered) for row in rows],
        lambda r: [r.t_end, r.tenant, r.cluster, r.workload, r.model, r.request_id, r.t_start],
    )


_SUBJECT = ("tenant", "cluster", "workload", "model")


def _unmetered(reader: LedgerReader, filter: Filter, rows: list[dict[str, Any]]) -> set[tuple[Any, ...]]:
    """Return (window, tenant, cluster, workload, model) of the ledger's rows without measured energy behind requests.

    A request without energy is not unmetered by that alone: it may have had no work.
    """
    windows = sorted({start_ms for row in rows for start_ms in row["windows_without_energy"]})
    if not windows:
        return set()
    subject = replace(filter, session_id=None)
    # As Arrow, because its way to the server takes long parameters.
    unmetered = reader.ask_arrow("ledger/unmetered_rows", subject, windows=windows).to_pylist()
    return {(row["start_ms"], *(row[name] for name in _SUBJECT)) for row in unmetered}


def _request_row(row: dict[str, Any], unmetered: set[tuple[Any, ...]]) -> RequestEnergyRow:
    energy_uj = row["active_uj"] + row["idle_uj"]
    tokens = row["prompt_tokens"] + row["completion_tokens"]
    subject = [row[name] for name in _SUBJECT]
    unmetered_windows = sum((start_ms, *subject) in unmetered for start_ms in row.pop("windows_without_energy"))
    extra = {
        "energy_uj": energy_uj,
        "joules_per_token": None if unmetered_windows else joules_per(energy_uj, tokens),
        "unmetered_windows": unmetered_windows,
        "simulated": bool(row["simulated"]),
    }
    return RequestEnergyRow(**{**row, **extra})


def cluster_silence(reader: LedgerReader, *, recent_ms: int, known_ms: int, limit: int) -> dict[str, bool]:
    """Return the measured clusters with energy since `known_ms`: True for those without a window since `recent_ms`.

    At most `limit` clusters, the silent ones first. For operators.
    """
    rows = reader.ask("ledger/cluster_silence", recent_ms=recent_ms, known_ms=known_ms, limit=limit)
    return {row["cluster"]: bool(row["silent"]) for row in rows}


def latest(
    reader: LedgerReader, end_ms: int, filter: Filter = _ALL, page: PageRequest = _FIRST_PAGE
) -> tuple[Period, Page[LatestRow]]:
    """Return the windows of the `LATEST_WINDOWS_MS` before `end_ms` by tenant, newest first, and that period.

    `periods.newest().window_end` is the `end_ms` to give. Pages after the first are of the first one's period, whatever
    has come since.
    """
    question = ("latest", reader.narrow(filter))
    after = page.after(question, [int, int, str])
    if after:
        end_ms = int(after[0])
    period = Period(EpochMs(max(end_ms - LATEST_WINDOWS_MS, 0)), EpochMs(end_ms))
    rows = reader.ask(
        "ledger/latest",
        filter,
        start_ms=period.start,
        end_ms=period.end,
        first=int(after is None),
        after_ms=after[1] if after else 0,
        after_tenant=after[2] if after else "",
        limit=page.limit + 1,
    )
    return period, page.cut(question, [_latest_row(row) for row in rows], lambda r: [end_ms, r.window_start, r.tenant])


def _latest_row(row: Mapping[str, Any]) -> LatestRow:
    return LatestRow(
        **{
            **row,
            "energy_uj": row["active_uj"] + row["idle_uj"] + row["unallocated_uj"],
            "final": bool(row["final"]),
            "simulated": bool(row["simulated"]),
        }
    )
