"""Below a bill: the fleet's nodes, the ledger's rows, the GPUs' intervals, the requests, the newest windows.

Periods, pages and errors are as in `reads`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from contracts.units import MS_PER_HOUR
from warehouse.chargeback.chargeback_queries import joules_per
from warehouse.chargeback.rollups import source_of
from warehouse.cursors import check_limit, page, read_cursor
from warehouse.results import METHODS, FleetRow, Interval, LatestRow, LedgerRow, Page, RequestRow

if TYPE_CHECKING:
    from warehouse.client import Warehouse

LATEST_WINDOWS_MS = 5 * 60_000
"""How far back `latest` looks from the newest window."""
_GROWTH = 8
"""How much longer each span of time is that a page is looked for in than the one before."""
_FIRST_SPAN_MS = {"ledger": 600_000, "request_energy": 1_000}
"""The first one: what the ledger's sort key finds in one go; of requests, a page of a large fleet."""
_ENDS_AFTER_MS = {"ledger": 0, "request_energy": 7 * MS_PER_HOUR}
"""How long after the start of its window a row may be asked for: requests are, by their end."""


def _oldest_first(
    warehouse: Warehouse,
    table: str,
    start_ms: int,
    end_ms: int,
    limit: int,
    ask: Callable[[int, int, int], list[dict[str, Any]]],
) -> list[dict[str, Any]]:
    """The first `limit` rows of a period, asked for as `ask(start_ms, end_ms, limit)` in spans of growing length.

    A page is a small part of most periods, and the first rows in time cannot be known without looking through all that
    is sorted by tenant first. So only as much time is looked through as fills the page.
    """
    (stored,) = warehouse.ask("extremes", idents={"table": table})
    at, span = max(start_ms, stored["oldest"]), _FIRST_SPAN_MS[table]
    end_ms = min(end_ms, stored["newest"] + _ENDS_AFTER_MS[table] + 1)
    found: list[dict[str, Any]] = []
    while at < end_ms and len(found) < limit:
        until = min(at - at % span + span, end_ms)
        found += ask(at, until, limit - len(found))
        at, span = until, span * _GROWTH
    return found


def fleet(
    warehouse: Warehouse,
    start_ms: int,
    end_ms: int,
    *,
    cluster: str | None = None,
    limit: int = 1_000,
    cursor: str | None = None,
) -> Page[FleetRow]:
    """Energy, mean power, utilisation, idle and unallocated ratios by cluster, node and hardware, as measured."""
    question = ("fleet", start_ms, end_ms, cluster)
    after = read_cursor(question, cursor, [str, str, str])
    cut = after or ["", "", ""]
    rows = warehouse.ask(
        "fleet",
        idents=source_of(start_ms, end_ms),
        start_ms=start_ms,
        end_ms=end_ms,
        cluster=cluster or "",
        first=int(after is None),
        after_cluster=cut[0],
        after_node=cut[1],
        after_hardware=cut[2],
        limit=check_limit(limit) + 1,
    )
    return page(question, [_fleet_row(row) for row in rows], limit, lambda r: [r.cluster, r.node, r.hardware])


def _fleet_row(row: Mapping[str, Any]) -> FleetRow:
    energy_uj, covered_ms = row["energy_uj"], row["covered_ms"]
    return FleetRow(
        cluster=row["cluster"],
        node=row["node"],
        hardware=row["hardware"],
        gpus=row["gpus"],
        energy_uj=energy_uj,
        gpu_seconds=covered_ms / 1000,
        mean_w=energy_uj / covered_ms / 1000 if covered_ms else None,  # 1 µJ/ms = 1 mW
        utilisation_ratio=row["utilisation_ratio"],
        idle_ratio=row["idle_uj"] / row["known_uj"] if row["known_uj"] else None,
        unallocated_ratio=row["unallocated_uj"] / energy_uj if energy_uj else 0.0,
        method=METHODS[row["method"]],
        simulated=bool(row["simulated"]),
    )


def ledger_rows(
    warehouse: Warehouse,
    start_ms: int,
    end_ms: int,
    *,
    tenant: str | None = None,
    cluster: str | None = None,
    workload: str | None = None,
    model: str | None = None,
    provisional: bool = False,
    limit: int = 1_000,
    cursor: str | None = None,
) -> Page[LedgerRow]:
    """The windows behind a bill, oldest first. `provisional` adds windows that are still open."""
    question = ("ledger", start_ms, end_ms, tenant, cluster, workload, model, provisional)
    after = read_cursor(question, cursor, [int, str, str, str, str, str])
    names = ("after_ms", "after_tenant", "after_cluster", "after_workload", "after_model", "after_hardware")
    cut: dict[str, Any] = dict(zip(names, after or [start_ms - 1, "", "", "", "", ""], strict=True))

    def ask(since_ms: int, until_ms: int, most: int) -> list[dict[str, Any]]:
        return warehouse.ask(
            "ledger_rows",
            start_ms=since_ms,
            end_ms=until_ms,
            tenant=tenant or "",
            cluster=cluster or "",
            workload=workload or "",
            model=model or "",
            provisional=int(provisional),
            limit=most,
            **cut,
        )

    rows = _oldest_first(warehouse, "ledger", max(start_ms, cut["after_ms"]), end_ms, check_limit(limit) + 1, ask)
    return page(
        question,
        [ledger_row(row) for row in rows],
        limit,
        lambda r: [r.window_start, r.tenant, r.cluster, r.workload, r.model, r.hardware],
    )


def ledger_row(row: Mapping[str, Any]) -> LedgerRow:
    """A row as ClickHouse returns it, typed."""
    fields = {name: row[name] for name in LedgerRow.__dataclass_fields__ if name in row}
    fields |= {
        "energy_uj": row["active_uj"] + row["idle_uj"] + row["unallocated_uj"],
        "method": METHODS[row["method"]],
        "final": bool(row["final"]),
        "simulated": bool(row["simulated"]),
    }
    return LedgerRow(**fields)


def intervals(
    warehouse: Warehouse,
    window_start: int,
    cluster: str,
    workload: str,
    *,
    tenant: str | None = None,
    limit: int = 1_000,
    cursor: str | None = None,
) -> Page[Interval]:
    """What each GPU measured in one window for one workload. With `tenant`: only where it has a ledger row itself."""
    question = ("intervals", window_start, cluster, workload, tenant)
    after = read_cursor(question, cursor, [str, str, int])
    cut = after or ["", "", 0]
    rows = warehouse.ask(
        "intervals",
        window_ms=window_start,
        cluster=cluster,
        workload=workload,
        tenant=tenant or "",
        first=int(after is None),
        after_node=cut[0],
        after_gpu=cut[1],
        after_late=cut[2],
        limit=check_limit(limit) + 1,
    )
    found = [interval(row) for row in rows]
    return page(question, found, limit, lambda r: [r.node, r.gpu_uuid, r.late_id])


def interval(row: Mapping[str, Any]) -> Interval:
    """A row as ClickHouse returns it, typed."""
    return Interval(
        **{
            **row,
            "busy_ms": row["busy_ms"] if row["busy_ms"] >= 0 else None,
            "method": METHODS[row["method"]],
            "late": row["late_id"] != 0,
            "simulated": bool(row["simulated"]),
        }
    )


def requests(
    warehouse: Warehouse,
    start_ms: int,
    end_ms: int,
    *,
    tenant: str | None = None,
    cluster: str | None = None,
    workload: str | None = None,
    model: str | None = None,
    session_id: str | None = None,
    limit: int = 1_000,
    cursor: str | None = None,
) -> Page[RequestRow]:
    """Requests that ended in a period, oldest first, with the energy of the windows that they ran in.

    Rows live for 30 days from when they were stored.
    """
    question = ("requests", start_ms, end_ms, tenant, cluster, workload, model, session_id)
    after = read_cursor(question, cursor, [int, str, str, str, str, str, int])
    names = (
        "after_ms",
        "after_tenant",
        "after_cluster",
        "after_workload",
        "after_model",
        "after_request",
        "after_start",
    )
    cut: dict[str, Any] = dict(zip(names, after or [start_ms - 1, "", "", "", "", "", 0], strict=True))

    def ask(since_ms: int, until_ms: int, most: int) -> list[dict[str, Any]]:
        return warehouse.ask(
            "requests",
            start_ms=since_ms,
            end_ms=until_ms,
            tenant=tenant or "",
            cluster=cluster or "",
            workload=workload or "",
            model=model or "",
            session_id=session_id or "",
            limit=most,
            **cut,
        )

    since_ms = max(start_ms, cut["after_ms"])
    rows = _oldest_first(warehouse, "request_energy", since_ms, end_ms, check_limit(limit) + 1, ask)
    return page(
        question,
        [_request_row(row) for row in rows],
        limit,
        lambda r: [r.t_end, r.tenant, r.cluster, r.workload, r.model, r.request_id, r.t_start],
    )


def _request_row(row: dict[str, Any]) -> RequestRow:
    energy_uj = row["active_uj"] + row["idle_uj"]
    tokens = row["prompt_tokens"] + row["completion_tokens"]
    extra = {
        "energy_uj": energy_uj,
        "joules_per_token": joules_per(energy_uj, tokens),
        "simulated": bool(row["simulated"]),
    }
    return RequestRow(**{**row, **extra})


def latest(warehouse: Warehouse, end_ms: int, *, tenant: str | None = None, limit: int = 1_000) -> list[LatestRow]:
    """The newest windows by tenant, newest first: `LATEST_WINDOWS_MS` back from `end_ms`.

    `periods.newest().window_end` is the `end_ms` to give.
    """
    rows = warehouse.ask(
        "latest", start_ms=end_ms - LATEST_WINDOWS_MS, end_ms=end_ms, tenant=tenant or "", limit=check_limit(limit)
    )
    return [
        LatestRow(
            **{
                **row,
                "energy_uj": row["active_uj"] + row["idle_uj"] + row["unallocated_uj"],
                "final": bool(row["final"]),
                "simulated": bool(row["simulated"]),
            }
        )
        for row in rows
    ]
