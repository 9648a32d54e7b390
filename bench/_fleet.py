"""Lay a fleet's year into a warehouse, in SQL and so in minutes: what bench/queries.py asks of.

Everything is a function of the row's own names and time (a hash of them), so a second run finds or lays the same rows.

The fleet has 10,000 GPUs in 1,250 nodes, 5 clusters and 3 hardware types. 150 workloads of 12 models run on 1,200 of
the nodes, in sizes that decrease like 1/rank. Each workload serves 25 of 1,000 tenants, drawn so that a few tenants use
many workloads and most use one or two (1/rank^0.9). Each of those 3,750 pairs is billed in every hour of the year, an
upper bound, since small tenants sleep at night. 50 nodes are unallocated. Together these are 3,800 rows an hour, or
33.3 million a year. Of windows (10 s) there is one whole day at full density: 86.4 M rows of GPUs, 32.8 M of the
ledger, 32.4 M of tokens; and ten minutes of 10,000 requests a second.

In every window each workload's ledger rows sum to its GPUs' energy exactly, each hour's rows of that day to its
windows', and each day's to its hours', so that `wattlog audit` has something to agree with. Only the requests' joules
are made up: the audit says so (`request_residual_uj`), and is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pyarrow as pa

from contracts.units import MS_PER_DAY, MS_PER_HOUR, epoch_ms
from warehouse.client import Warehouse
from warehouse.migrate import migrate
from warehouse.reference_data.attribution_tables import seed_defaults
from warehouse.reference_data.clusters import Cluster, put_clusters
from warehouse.reference_data.prices import Price, put_prices
from warehouse.reference_data.tenants import Tenant, put_tenants
from warehouse.sink.sink import Sink

END_MS = epoch_ms("2026-11-01T00:00:00Z")
NODES, GPUS_PER_NODE, FREE_NODES = 1_250, 8, 50
CLUSTERS, HARDWARE, MODELS, WORKLOADS, TENANTS, TENANTS_EACH = 5, ("H100", "H200", "B200"), 12, 150, 1_000, 25
WINDOW_MS = 10_000
REQUESTS_PER_S = 10_000
FINAL = 1 << 62
REFRESHES = 5
"""Of the newest day, since a merge."""
_SHARES = 1 << 16


@dataclass(frozen=True, slots=True)
class Size:
    """Amount of data to lay down, by period; every period ends at END_MS."""

    name: str
    hours_ms: int
    windows_ms: int
    requests_ms: int

    @property
    def database(self) -> str:
        return f"queries_{self.name}_{self.windows_ms // MS_PER_HOUR}h"


FULL = Size("full", 365 * MS_PER_DAY, MS_PER_DAY, 600_000)
QUICK = Size("quick", 31 * MS_PER_DAY, MS_PER_HOUR, 60_000)


def lay(warehouse: Warehouse, size: Size) -> bool:
    """Lay what is missing, and note that it is complete. Returns whether anything was."""
    migrate(warehouse)
    warehouse.command("CREATE TABLE IF NOT EXISTS bench_laid (what String) ENGINE = MergeTree ORDER BY what")
    laid = {row["what"] for row in warehouse.query("SELECT what FROM bench_laid")}
    steps = {"fleet": _fleet, "hours": _hours, "gpu_energy": _gpu_energy, "ledger": _ledger, "day": _day,
             "days": _days, "token_usage": _token_usage, "request_energy": _requests}  # fmt: skip
    for step_name, step in steps.items():
        if step_name not in laid:
            for table in _WRITES.get(step_name, ()):
                warehouse.command(f"TRUNCATE TABLE IF EXISTS {table}")
            step(warehouse, size)
            warehouse.command("INSERT INTO bench_laid VALUES ({step_name:String})", step_name=step_name)
    return len(laid) < len(steps)


_WRITES = {
    "fleet": ("bench_pairs", "bench_gpus"), "hours": ("ledger_hour",), "days": ("ledger_day",),
    "gpu_energy": ("gpu_energy",), "ledger": ("ledger",), "token_usage": ("token_usage",),
    "request_energy": ("request_energy",),
}  # fmt: skip


def _fleet(warehouse: Warehouse, size: Size) -> None:
    rng = np.random.default_rng(20261101)
    rank = np.arange(1, WORKLOADS + 1)
    nodes = np.maximum(1, np.floor((NODES - FREE_NODES) / rank / np.sum(1 / rank))).astype(int)
    nodes[0] += NODES - FREE_NODES - nodes.sum()  # the floors' rest goes to the largest
    likely = 1 / np.arange(1, TENANTS + 1) ** 0.9
    likely /= likely.sum()
    pairs, gpus = [], []
    for w in range(WORKLOADS):
        payers = rng.choice(TENANTS, TENANTS_EACH, replace=False, p=likely)
        cuts = np.floor(np.concatenate([[0], np.cumsum(likely[payers])]) / likely[payers].sum() * _SHARES + 0.5).astype(
            int
        )
        of = (f"cluster-{w % CLUSTERS}", f"workload-{w:03d}", HARDWARE[w % len(HARDWARE)])
        for i, payer in enumerate(payers):
            pairs.append(
                (*of, f"model-{w % MODELS:02d}", f"tenant-{payer:04d}", nodes[w] * GPUS_PER_NODE, cuts[i], cuts[i + 1])
            )
        gpus += [(*of, nodes[:w].sum() + k // GPUS_PER_NODE) for k in range(nodes[w] * GPUS_PER_NODE)]
    for n in range(NODES - FREE_NODES, NODES):
        of = (f"cluster-{n % CLUSTERS}", f"~node-{n:04d}", HARDWARE[n % len(HARDWARE)])
        pairs.append((*of, "", "__unallocated__", GPUS_PER_NODE, 0, _SHARES))
        gpus += [(*of, n)] * GPUS_PER_NODE
    text = "LowCardinality(String)"
    _table(warehouse, "bench_pairs", pairs, {
        "cluster": text, "workload": text, "hardware": text, "model": text, "tenant": text, "gpus": "Int64",
        "from_share": "Int64", "to_share": "Int64",
    })  # fmt: skip
    rows = [(*gpu[:3], f"node-{gpu[3]:04d}", f"GPU-{number:08x}", number) for number, gpu in enumerate(gpus)]
    _table(warehouse, "bench_gpus", rows, {
        "cluster": text, "workload": text, "hardware": text, "node": text, "gpu_uuid": text, "gpu_no": "Int64"
    })  # fmt: skip
    put_tenants(warehouse, [Tenant(f"tenant-{t:04d}", f"team-{t % 60:02d}", f"CC-{t % 25}") for t in range(TENANTS)])
    names = [f"cluster-{c}" for c in range(CLUSTERS)]
    put_clusters(warehouse, [Cluster(name, True, "SIMULATED by bench") for name in names])
    # Each cluster its own tariff, new in each quarter; so a month has one span of prices, a year five.
    quarters = [
        epoch_ms(f"{day}T00:00:00Z")
        for day in ("2025-11-01", "2026-01-01", "2026-04-01", "2026-07-01", "2026-10-01", "2027-01-01")
    ]
    put_prices(warehouse, [
        Price("energy", name, Decimal("0.07") + Decimal(7 * i + q).scaleb(-3), start, end, "EUR")
        for i, name in enumerate(names) for q, (start, end) in enumerate(pairwise(quarters))
    ])  # fmt: skip
    put_prices(warehouse, [Price("pue", "*", Decimal("1.21")), Price("carbon", "*", Decimal("342.5"))])
    seed_defaults(warehouse)


def _table(warehouse: Warehouse, name: str, rows: Sequence[tuple[object, ...]], columns: dict[str, str]) -> None:
    ddl = ", ".join(f"{c} {t}" for c, t in columns.items())
    warehouse.command(f"CREATE TABLE IF NOT EXISTS {name} ({ddl}) ENGINE = MergeTree ORDER BY tuple()")
    warehouse.insert_arrow(name, pa.table({c: list(v) for c, v in zip(columns, zip(*rows, strict=True), strict=True)}))


# What one GPU of a workload draws in one window: 90 W idle, and 100 to 499 W more when somebody holds it.
_IDLE_UJ = 90 * 1_000_000 * WINDOW_MS // 1000
_ACTIVE_UJ = "(100 + toInt64(cityHash64(workload, at) % 400)) * 10000000"
_TOKENS = """
    100 + toInt64(cityHash64(workload, tenant, at, 1) % 4000) AS completion, 3 * completion + 17 AS prompt,
    intDiv(prompt, 5) AS cached, 1 + intDiv(completion, 500) AS ended"""
_HOUR = """
    hour, cluster, workload, hardware, model, tenant, active_uj, idle_uj, unallocated_uj, prompt_tokens, cached_tokens,
    completion_tokens, work, requests, failures, windows, quarter_uj, method, revision, version, deleted"""
# Quarters of an hour differ by up to a tenth, as loads do.
_QUARTERS = """[
    intDiv((active + idle + unallocated) * (90 + cityHash64(workload, tenant, at, 2) % 21), 400) AS quarter,
    quarter, quarter, active + idle + unallocated - 3 * quarter]"""
_PROVENANCE = "'bench', 0, {version:UInt64}, 0"


def _share(total: str) -> str:
    return f"intDiv(({total}) * to_share, {_SHARES}) - intDiv(({total}) * from_share, {_SHARES})"


def _hours(warehouse: Warehouse, size: Size) -> None:
    sql = f"""
        INSERT INTO ledger_hour ({_HOUR})
        WITH fromUnixTimestamp64Milli(number * {MS_PER_HOUR}, 'UTC') AS at, startsWith(workload, '~') AS free, {_TOKENS}
        SELECT
            at, cluster, workload, hardware, model, tenant,
            if(free, 0, intDiv(gpus * {_ACTIVE_UJ} * 360, {_SHARES}) * (to_share - from_share)) AS active,
            if(free, 0, intDiv(gpus * {_IDLE_UJ} * 360, {_SHARES}) * (to_share - from_share)) AS idle,
            if(free, gpus * {_IDLE_UJ} * 360, 0) AS unallocated,
            if(free, 0, prompt * 360), if(free, 0, cached * 360), if(free, 0, completion * 360),
            if(free, 0, (prompt - cached + 3 * completion) * 360000), if(free, 0, ended * 360), 0, 360,
            {_QUARTERS}, 0, 0, 1, 0
        FROM numbers({{from_hour:UInt64}}, {{hours:UInt64}}) AS n CROSS JOIN bench_pairs AS p"""
    last = END_MS // MS_PER_HOUR
    first = last - size.hours_ms // MS_PER_HOUR
    for at in range(first, last, 24 * 31):
        warehouse.command(sql, from_hour=at, hours=min(24 * 31, last - at))
    warehouse.command("OPTIMIZE TABLE ledger_hour FINAL")


def _gpu_energy(warehouse: Warehouse, size: Size) -> None:
    """Two GPUs that are neighbours differ from the mean by the same, up and down: so the workload's sum is known."""
    _windows(warehouse, size, "gpu_energy", f"""
        INSERT INTO gpu_energy
        WITH fromUnixTimestamp64Milli(number * {WINDOW_MS}, 'UTC') AS at, startsWith(workload, '~') AS free,
            toInt64(cityHash64(intDiv(gpu_no, 2), at) % 300000000) * if(gpu_no % 2 = 0, 1, -1) AS noise_uj
        SELECT
            at, cluster, node, gpu_uuid, workload, 0, {WINDOW_MS}, hardware, '', 0,
            {_IDLE_UJ} + noise_uj + if(free, 0, {_ACTIVE_UJ}), {WINDOW_MS}, if(free, 0, 7000), {_PROVENANCE}
        FROM numbers({{first:UInt64}}, {{windows:UInt64}}) AS n CROSS JOIN bench_gpus AS g""")  # fmt: skip


def _ledger(warehouse: Warehouse, size: Size) -> None:
    _windows(warehouse, size, "ledger", f"""
        INSERT INTO ledger (
            window_start, cluster, workload, hardware, model, tenant, window_ms, active_uj, idle_uj, unallocated_uj,
            prompt_tokens, cached_tokens, completion_tokens, work, requests, failures, method, weights_version,
            floor_version, revision, final, log_id, log_partition, version, deleted)
        WITH fromUnixTimestamp64Milli(number * {WINDOW_MS}, 'UTC') AS at, startsWith(workload, '~') AS free, {_TOKENS}
        SELECT
            at, cluster, workload, hardware, model, tenant, {WINDOW_MS},
            if(free, 0, {_share(f"gpus * {_ACTIVE_UJ}")}), if(free, 0, {_share(f"gpus * {_IDLE_UJ}")}),
            if(free, gpus * {_IDLE_UJ}, 0),
            if(free, 0, prompt), if(free, 0, cached), if(free, 0, completion),
            if(free, 0, (prompt - cached + 3 * completion) * 1000), if(free, 0, ended), 0, 0, 1, 1, 0, 1, {_PROVENANCE}
        FROM numbers({{first:UInt64}}, {{windows:UInt64}}) AS n CROSS JOIN bench_pairs AS p""")  # fmt: skip


def _day(warehouse: Warehouse, size: Size) -> None:
    """The hours of the windows say what the windows say."""
    warehouse.command(f"""
        INSERT INTO ledger_hour ({_HOUR})
        SELECT
            fromUnixTimestamp64Milli(intDiv(toUnixTimestamp64Milli(window_start), 3600000) * 3600000, 'UTC') AS hour,
            cluster, workload, hardware, model, tenant, sum(active_uj), sum(idle_uj), sum(unallocated_uj),
            sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens), sum(work), sum(requests), sum(failures),
            count(), sumForEach(arrayPushBack(
                arrayResize([]::Array(Int64), intDiv(toUnixTimestamp64Milli(window_start) % 3600000, 900000)),
                active_uj + idle_uj + unallocated_uj)),
            0, 0, 2, 0
        FROM ledger GROUP BY hour, cluster, workload, hardware, model, tenant""")
    warehouse.command("OPTIMIZE TABLE ledger_hour FINAL")


def _days(warehouse: Warehouse, size: Size) -> None:
    """Days as their refresh makes them; the newest in some parts more, as refreshes leave it between merges."""
    sink, days = Sink(warehouse), range(END_MS - size.hours_ms, END_MS, MS_PER_DAY)
    pairs = warehouse.query("SELECT DISTINCT cluster, workload FROM bench_pairs")
    subjects = [pair["cluster"] for pair in pairs], [pair["workload"] for pair in pairs]
    for at in range(0, len(days), 31):
        sink.refresh_days(days[at : at + 31], *subjects)
    warehouse.command("OPTIMIZE TABLE ledger_day FINAL")
    for _ in range(REFRESHES):
        sink.refresh_days(days[-1:], *subjects)


def _token_usage(warehouse: Warehouse, size: Size) -> None:
    _windows(warehouse, size, "token_usage", f"""
        INSERT INTO token_usage (
            window_start, cluster, workload, tenant, model, late_id, window_ms, prompt_tokens, cached_tokens,
            completion_tokens, computed_mtok, cached_mtok, completion_mtok, requests, failures,
            log_id, log_partition, version, deleted)
        WITH fromUnixTimestamp64Milli(number * {WINDOW_MS}, 'UTC') AS at, {_TOKENS}
        SELECT
            at, cluster, workload, tenant, model, 0, {WINDOW_MS}, prompt, cached, completion, (prompt - cached) * 1000,
            cached * 1000, completion * 1000, ended, 0, {_PROVENANCE}
        FROM numbers({{first:UInt64}}, {{windows:UInt64}}) AS n CROSS JOIN bench_pairs AS p
        WHERE tenant != '__unallocated__'
        """)  # fmt: skip


def _requests(warehouse: Warehouse, size: Size) -> None:
    """Requests of up to 20 s; a row for each window that one runs in."""
    first = END_MS - size.requests_ms
    warehouse.command(f"""
        INSERT INTO request_energy (
            tenant, t_end, request_id, window_start, late_id, window_ms, cluster, workload, model, t_start, session_id,
            trace_id, status, prompt_tokens, cached_tokens, completion_tokens, computed_mtok, cached_mtok,
            completion_mtok, active_uj, idle_uj, log_id, log_partition, version, deleted, stored_at)
        SELECT
            tenant, fromUnixTimestamp64Milli(ended, 'UTC'), hex(number),
            fromUnixTimestamp64Milli(w * {WINDOW_MS}, 'UTC'), 0, {WINDOW_MS}, cluster, workload, model,
            fromUnixTimestamp64Milli(started, 'UTC'), hex(number % 50000), '', 'ok',
            900, 180, 300, 720000, 180000, 300000, 400000000, 90000000, {_PROVENANCE}, now()
        FROM
        (
            SELECT number, cityHash64(number) % {WORKLOADS * TENANTS_EACH} AS no,
                {first} + intDiv(number * 1000, {REQUESTS_PER_S}) AS started,
                toInt64(started + 1 + cityHash64(number, 2) % 20000) AS ended,
                toUInt64(intDiv(started, {WINDOW_MS})) AS first, toUInt64(intDiv(ended - 1, {WINDOW_MS})) AS last,
                arrayJoin(range(first, last + 1)) AS w
            FROM numbers({size.requests_ms // 1000 * REQUESTS_PER_S})
        ) AS r
        INNER JOIN (SELECT *, rowNumberInAllBlocks() AS no FROM bench_pairs) AS p USING (no)""",
        version=FINAL)  # fmt: skip


def _windows(warehouse: Warehouse, size: Size, table: str, sql: str) -> None:
    """All but the last two hours as closed days are, merged; those as a worker leaves them, in parts of ten minutes."""
    first, last = (END_MS - size.windows_ms) // WINDOW_MS, END_MS // WINDOW_MS
    open_from = max(first, last - 2 * MS_PER_HOUR // WINDOW_MS)
    for at in range(first, open_from, 360):
        warehouse.command(sql, first=at, windows=min(360, open_from - at), version=FINAL)
    warehouse.command(f"OPTIMIZE TABLE {table} FINAL")
    for at in range(open_from, last, 60):
        warehouse.command(sql, first=at, windows=60, version=FINAL)
