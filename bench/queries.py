"""Query times on a year of a 10,000-GPU fleet. `python -m bench.queries [--quick]`.

Lays the fleet of bench/_fleet.py down once (under .cache/bench), then asks through the functions that the API calls,
and through the API itself. Each question is asked of one process, `--times` times after one that is not counted, in
turn with the others, so that none finds the caches as it left them; `first ms` is that uncounted one. Wall times
include the load of other processes on this machine; CPU times are the cost of the answer, and can be compared.

Times end up in build/bench/queries.json (queries_quick.json).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from rich.console import Console
from rich.table import Table

from api.app import create_app
from bench._fleet import END_MS, FULL, QUICK, WINDOW_MS, Size, lay
from contracts.settings import Settings
from contracts.units import MS_PER_DAY, MS_PER_HOUR, EpochMs, epoch_ms, rfc3339
from warehouse.audit.conservation import audit
from warehouse.billing.closing import draft
from warehouse.billing.price_books import put_book
from warehouse.chargeback import chargeback_queries
from warehouse.client import Warehouse, connect
from warehouse.cursors import PageRequest
from warehouse.filters import Filter
from warehouse.ledger import ledger_queries
from warehouse.ledger.explanation import explain
from warehouse.periods import Period, newest
from warehouse.reader import operator_reader
from warehouse.reference_data.prices import Price, list_prices, put_prices, remove_price

ROOT = Path(__file__).resolve().parents[1]
OCTOBER = Period(epoch_ms("2026-10-01T00:00:00Z"), EpochMs(END_MS))
TENANT, BIG, SMALL = "tenant-0041", "tenant-0000", "tenant-0900"
"""Of the middle, the largest, and among the smallest."""


@dataclass(slots=True)
class Question:
    """One question, its target in ms (None: reported only), and its times."""

    name: str
    ask: Callable[[], Any]
    target_ms: float | None = None
    rows: int = 0
    first_ms: float = 0.0
    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    def once(self) -> None:
        """Ask, and note wall and CPU time (of this process, where the engine is)."""
        wall, cpu = time.perf_counter(), time.process_time()
        answer = self.ask()
        self.cpu_ms.append(1000 * (time.process_time() - cpu))
        self.wall_ms.append(1000 * (time.perf_counter() - wall))
        self.rows = len(getattr(answer, "rows", answer))


def questions(warehouse: Warehouse, size: Size) -> list[Question]:
    """Return the questions, from a bill down to one GPU's interval."""
    defaults: dict[str, Any] = {"_env_file": None}
    http = TestClient(create_app(warehouse, Settings(**defaults)), base_url="http://127.0.0.1")
    window = END_MS - size.windows_ms // 2 // WINDOW_MS * WINDOW_MS
    reader = operator_reader(warehouse)
    year = Period(EpochMs(END_MS - size.hours_ms), EpochMs(END_MS))
    day = Period(EpochMs(END_MS - min(size.windows_ms, MS_PER_DAY)), EpochMs(END_MS))
    (biggest,) = warehouse.query(
        "SELECT cluster, workload FROM bench_gpus GROUP BY ALL ORDER BY count() DESC, workload LIMIT 1"
    )
    subject = (biggest["cluster"], biggest["workload"])

    def bill(*by: str, tenant: str | None = None) -> Callable[[], Any]:
        return lambda: chargeback_queries.chargeback_and_total(reader, OCTOBER, by, Filter(tenant=tenant))[0]

    def get(path: str, **params: Any) -> Callable[[], Any]:
        def ask() -> Any:
            answer = http.get(path, params=params)
            answer.raise_for_status()
            return answer.json()["rows"]

        return ask

    def second_page() -> Any:
        first = ledger_queries.ledger_rows(reader, OCTOBER, Filter(tenant=BIG))
        return ledger_queries.ledger_rows(reader, OCTOBER, Filter(tenant=BIG), PageRequest(cursor=first.next))

    span = {"from": rfc3339(day.start), "to": rfc3339(day.end)}
    at = f"/v1/ledger/{subject[0]}/{subject[1]}/{rfc3339(window)}/intervals"
    catalogue = [
        Question("chargeback of a month by tenant, with its total", bill("tenant"), 100),
        Question("the same over the API", get("/v1/chargeback", period="2026-10"), 100),
        Question("chargeback of a month by model", bill("model"), 100),
        Question("chargeback of a month by team", bill("team"), 100),
        Question("chargeback of a month by tenant, model", bill("tenant", "model")),
        Question("chargeback of a month by day", bill("day"), 100),
        Question("chargeback of a month, one tenant, by day", bill("day", tenant=TENANT), 100),
        Question("chargeback of the year by month", lambda: chargeback_queries.chargeback(reader, year, ["month"])),
        Question("newest window (what latest-month means)", lambda: [newest(reader)], 100),
        Question("windows of a month, everybody, first page", lambda: ledger_queries.ledger_rows(reader, OCTOBER), 300),
        Question("windows of a month, large tenant, two pages", second_page, 300),
        Question(
            "windows of a day, small tenant", lambda: ledger_queries.ledger_rows(reader, day, Filter(tenant=SMALL)), 300
        ),
        Question("windows of a day over the API", get("/v1/ledger", tenant=TENANT, **span), 300),
        Question(
            "intervals of a window, largest workload", lambda: ledger_queries.intervals(reader, window, *subject), 300
        ),
        Question("the same over the API", get(at), 300),
        Question("requests, everybody, first page", lambda: ledger_queries.requests(reader, day), 300),
        Question(
            "requests of one tenant, first page",
            lambda: ledger_queries.requests(reader, day, Filter(tenant=TENANT)),
            300,
        ),
        Question("explain a tenant's newest window", lambda: [explain(reader, TENANT)], 300),
    ]
    return catalogue


def measure(catalogue: list[Question], times: int) -> None:
    """Each question once uncounted, then `times` rounds of all."""
    for question in catalogue:
        question.once()
        question.first_ms = question.wall_ms.pop()
        question.cpu_ms.clear()
    for _ in range(times):
        for question in catalogue:
            question.once()


def quantile(values: list[float], q: float) -> float:
    """The smallest value that is not below a share `q` of them."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * int(q * 100) // 100) - 1)]


def stored(warehouse: Warehouse) -> list[dict[str, Any]]:
    """Rows, parts and bytes of each table that is asked."""
    return warehouse.query(
        "SELECT table, sum(rows) AS rows, count() AS parts, sum(bytes_on_disk) AS bytes FROM system.parts "
        "WHERE active AND database = currentDatabase() GROUP BY table HAVING rows > 5000 ORDER BY table"
    )


def audited(warehouse: Warehouse, size: Size) -> dict[str, Any]:
    """The last hour and, where there is one, the last day audited once."""
    out: dict[str, Any] = {}
    for name, span in {"hour": MS_PER_HOUR, "day": MS_PER_DAY}.items():
        if span > size.windows_ms:
            continue
        wall, cpu = time.perf_counter(), time.process_time()
        report = audit(operator_reader(warehouse), Period(EpochMs(END_MS - span), EpochMs(END_MS)))
        out[name] = {
            "wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu, "windows": report.windows,
            "residual_uj": report.residual_uj, "token_residual_tokens": report.token_residual_tokens,
            "hour_residual_uj": report.hour_residual_uj, "day_residual_uj": report.day_residual_uj,
            "coverage_ratio": report.coverage_ratio,
        }  # fmt: skip
    return out


STEPS = {"hour": MS_PER_HOUR, "quarter of an hour": MS_PER_HOUR // 4}


@contextmanager
def changing_tariff(warehouse: Warehouse, step_ms: int) -> Iterator[None]:
    """Each cluster's tariff changes at every step of October, as prices of a day-ahead market do."""
    october = [p for p in list_prices(warehouse) if p.kind == "energy" and p.valid_from_ms == OCTOBER.start]
    for price in october:
        remove_price(warehouse, price.kind, price.cluster, price.valid_from_ms)
    starts = range(OCTOBER.start, OCTOBER.end, step_ms)
    series = [
        Price("energy", price.cluster, price.value + Decimal(n * n % 97).scaleb(-3), at, at + step_ms, price.currency)
        for price in october
        for n, at in enumerate(starts)
    ]
    put_prices(warehouse, series)
    try:
        yield
    finally:
        warehouse.command(
            "ALTER TABLE prices DELETE WHERE kind = 'energy' AND valid_from >= fromUnixTimestamp64Milli({at_ms:Int64})"
            " AND valid_from < fromUnixTimestamp64Milli({until_ms:Int64}) SETTINGS mutations_sync = 2",
            at_ms=OCTOBER.start,
            until_ms=OCTOBER.end,
        )
        put_prices(warehouse, october)


def changing_tariffs(warehouse: Warehouse, times: int) -> list[Question]:
    """A month's bill by tenant where each cluster's tariff changes every hour, and every quarter of one."""
    reader, catalogue = operator_reader(warehouse), []
    for name, step_ms in STEPS.items():
        with changing_tariff(warehouse, step_ms):
            question = Question(
                f"the same, with a tariff that changes every {name}",
                lambda: chargeback_queries.chargeback_and_total(reader, OCTOBER, ("tenant",))[0],
                100,
            )
            measure([question], times)
            catalogue.append(question)
    return catalogue


BOOK = """
currency = "USD"
[[rates]]
name = "output tokens, night"
meter = "output_tokens"
price = "1.10"
per = 1_000_000
[[rates]]
name = "output tokens, day"
meter = "output_tokens"
price = "1.40"
per = 1_000_000
when = { days = ["weekdays"], hours = ["08-20"] }
[[rates]]
name = "input tokens"
meter = "input_tokens"
price = "0.30"
per = 1_000_000
[[taxes]]
name = "VAT"
percent = "19"
"""


def billed(warehouse: Warehouse) -> dict[str, Any]:
    """The bill of October made once, as closing it makes it."""
    put_book(warehouse, BOOK, "bench", END_MS)
    wall, cpu = time.perf_counter(), time.process_time()
    lines = draft(operator_reader(warehouse), "2026-10", OCTOBER, "USD").bill.lines
    return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu, "lines": len(lines)}


def main() -> None:
    """Lay, ask, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a month of hours and an hour of windows")
    parser.add_argument("--windows", type=int, default=24, help="hours of windows at full density, where time is short")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=ROOT / ".cache/bench/warehouse")
    parser.add_argument("--no-audit", action="store_true", help="leave the audit out")
    options = parser.parse_args()
    size = QUICK if options.quick else replace(FULL, windows_ms=options.windows * MS_PER_HOUR)
    console = Console(width=140)
    with connect(f"chdb://{options.folder.resolve()}", database=size.database) as warehouse:
        began = time.perf_counter()
        if lay(warehouse, size):
            console.print(f"laid in {time.perf_counter() - began:.0f} s")
        tables = stored(warehouse)
        catalogue = questions(warehouse, size)
        measure(catalogue, options.times)
        catalogue[1:1] = changing_tariffs(warehouse, options.times)
        checks = {} if options.no_audit else audited(warehouse, size)
        bill = billed(warehouse)
        console.print(f"bill of a month: {bill['wall_s']:.1f} s, {bill['cpu_s']:.1f} CPU s, {bill['lines']} lines")
    _print(console, size, tables, catalogue, checks)
    _write(size, options.times, tables, catalogue, checks)


def _print(
    console: Console, size: Size, tables: list[dict[str, Any]], catalogue: list[Question], checks: dict[str, Any]
) -> None:
    held = ", ".join(f"{t['table']} {t['rows'] / 1e6:.1f} M" for t in tables)
    console.print(f"{held}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", soft_wrap=True)
    table = Table(title=f"Waiting for answers, {size.name}", title_justify="left")
    for i, column in enumerate(["question", "rows", "first ms", "p50 ms", "p95 ms", "CPU p50 ms", "target ms"]):
        table.add_column(column, justify="left" if i == 0 else "right")
    for q in catalogue:
        times = [q.first_ms, quantile(q.wall_ms, 0.5), quantile(q.wall_ms, 0.95), quantile(q.cpu_ms, 0.5)]
        table.add_row(
            q.name, str(q.rows), *(f"{f:.0f}" for f in times), "" if q.target_ms is None else f"{q.target_ms:.0f}"
        )
    console.print(table)
    for name, check in checks.items():
        took = f"{check['wall_s']:.1f} s, {check['cpu_s']:.1f} CPU s"
        console.print(f"audit of the last {name}: {took}, {check['residual_uj']} uJ off")


def _write(
    size: Size, times: int, tables: list[dict[str, Any]], catalogue: list[Question], checks: dict[str, Any]
) -> None:
    out = ROOT / "build/bench" / ("queries.json" if size.name == FULL.name else f"queries_{size.name}.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    answers = [figures(question) for question in catalogue]
    body = {
        "size": asdict(size), "times": times, "cores": os.cpu_count(), "load": os.getloadavg(),
        "python": platform.python_version(),
        "tables": tables, "questions": answers, "audit": checks,
    }  # fmt: skip
    out.write_text(json.dumps(body, indent=1) + "\n")


def figures(question: Question) -> dict[str, Any]:
    """A question's times, with the quantiles that the table shows."""
    kept = {name: getattr(question, name) for name in ("name", "target_ms", "rows", "first_ms", "wall_ms", "cpu_ms")}
    return kept | {
        "p50_ms": quantile(question.wall_ms, 0.5), "p95_ms": quantile(question.wall_ms, 0.95),
        "cpu_p50_ms": quantile(question.cpu_ms, 0.5),
    }  # fmt: skip


if __name__ == "__main__":
    main()
