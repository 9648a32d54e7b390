"""A new column is declared in one place and reaches bodies, windows, stored rows, rollups, queries and the API.

The test copies the packages, adds columns `video_tokens` and `zone` to requests and `zone` to usage by the
edits below, and runs a journey through the copy. The demo's history, which lacks the column, is still attributed.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from contracts.events import TOKENS
from tests.support.paths import ROOT

PACKAGES = ("contracts", "billing", "producers", "streams", "warehouse", "forecasting", "api", "cli")
TOTAL = re.compile(r"\b(?:\w+\.)?prompt_tokens \+ (?:\w+\.)?completion_tokens\b")
"""The total `tokens`, of which other columns are parts: no list of columns."""
NOT_LISTS = {
    "warehouse/ad_hoc/saved/cache_hit_share.sql": "a question about cached tokens",
    "warehouse/ad_hoc/saved/cost_per_output_token.sql": "a question about output tokens",
    "warehouse/ad_hoc/saved/joules_by_kind.sql": "a question about the three kinds that bear energy",
    "warehouse/audit/same_calls.sql": "the counts by which two senders' calls are compared",
    "warehouse/chargeback/kind_rows.sql": "the three kinds that bear energy",
    "warehouse/chargeback/chargeback.sql": "completion tokens without energy, for joules per output token",
    "warehouse/reconciliation/hours.sql": "the counts that servers tell, too",
    "warehouse/reconciliation/rollups.sql": "the total, in its two parts",
    "warehouse/reconciliation/windows.sql": "the total, in its two parts",
}
"""Files that name single columns, with the reason."""

DECLARATION = (
    "contracts/events.py",
    r"(    queue_ms: Annotated\[I64 \| None, .*\n)",
    """\\1    video_tokens: Annotated[
        I64 | None, BatchColumn(form="number", phase="completion", part_of="completion_tokens")
    ] = None
    zone: Annotated[tuple[str, ...], BatchColumn(form="text")] = ()
""",
)
USAGE_DECLARATION = (
    "contracts/events.py",
    r"(    dimensions: Annotated\[.*\n)",
    '\\1    zone: Annotated[tuple[str, ...], BatchColumn(form="text")] = ()\n',
)
MIGRATION = "warehouse/migrations/" + "9999_video_tokens.sql"
"""The schemas list tokens in the order of their declarations, hence AFTER the last of them."""
MIGRATION_TEXT = "".join(
    f"ALTER TABLE {table} ADD COLUMN video_tokens Int64 CODEC(T64, ZSTD(1)) AFTER {TOKENS[-1]};\n"
    for table in ("token_usage", "request_energy", "ledger", "ledger_hour", "ledger_day")
)
MIGRATION_TEXT += "ALTER TABLE request_energy ADD COLUMN zone String AFTER sender;\n"
MIGRATION_TEXT += "ALTER TABLE usage ADD COLUMN zone LowCardinality(String) AFTER dimensions;\n"
EDITS = (
    USAGE_DECLARATION,
    DECLARATION,
    # Fields of results: a person chooses which columns the API shows.
    ("warehouse/results.py", r"(    estimated_completion_tokens: int\n)", "\\1    video_tokens: int\n"),
    ("warehouse/usage/sessions.py", r"(    estimated_completion_tokens: int\n)", "\\1    video_tokens: int\n"),
    # The row in which a gateway passes a request on.
    (
        "producers/runtime/batching.py",
        r'(    route: str = ""\n)',
        "\\1    video_tokens: int = 0\n    zone: str = ''\n",
    ),
    ("producers/runtime/batching.py", r"(    dimensions: Mapping\[.*\n)", '\\1    zone: str = ""\n'),
)

JOURNEY = """
import json, sys
import numpy as np
from api.app import create_app
from cli import demo_history
from contracts import codec, topics
from contracts.events import TOKENS, Event
from contracts.settings import Settings
from producers.runtime.batching import RequestRow, UsageRow, token_batch, usage_batch
from producers.runtime.event_sequence import power_batch
from streams.core.attribution.policy import Policy
from streams.core.decoding import LogMessage, PartitionConfig
from streams.core.partition import Partition
from streams.core.restatement import restate
from streams.core.usage_batch import UsageLimits, UsageMessage, UsageMicroBatch, usage_rows
from warehouse.chargeback.chargeback_queries import chargeback
from warehouse.client import connect
from warehouse.ledger.ledger_queries import ledger_rows, requests
from warehouse.migrate import migrate
from warehouse.periods import Period
from warehouse.reader import operator_reader
from warehouse.sink.sink import Sink
from warehouse.usage.sessions import session

T0, HOUR = 1_700_006_400_000, 3_600_000
rows = [
    RequestRow(
        tenant="acme", model="m", request_id=f"r{n}", t_start_ms=T0, t_first_ms=T0 + 2_000, t_end_ms=T0 + 22_000,
        prompt_tokens=100, cached_tokens=10, completion_tokens=70, session_id="s", video_tokens=n,
        zone="eu" if n else "",
    )
    for n in (0, 41, 60)
]
batch = token_batch(rows, T0)
events = [(batch, codec.PACKED, 0), (token_batch(rows[1:], T0), codec.JSON, 1)]
power = power_batch("n", [("GPU-0", "H100", T0, T0 + 30_000, 9_000_000, 0, -1)], t_ms=T0 + 30_000)

result = {"tokens": TOKENS, "packed": [], "json": []}
for content_type, name in ((codec.PACKED, "packed"), (codec.JSON, "json")):
    headers, body = codec.encode(Event("s", 1, 0, "c", "w", batch), content_type=content_type)
    result[name] = codec.decode(headers, body).batch.video_tokens.tolist()
old, _ = codec.encode(Event("s", 1, 0, "c", "w", token_batch(rows[:1], T0))), None
result["left_out"] = b"video_tokens" not in old[1] and codec.decode(*old).batch.video_tokens is None

state = Partition("log", 0, PartitionConfig(lateness_ms=0, skew_ms=0, idle_timeout_ms=100), Policy(), now_ms=T0)
beats = [(token_batch([], T0 + 100_000), codec.PACKED, 2)]
messages = [
    LogMessage(topics.TOKENS, n, *codec.encode(Event("s", 1, n, "c", "w", b), content_type=t))
    for b, t, n in [*events, *beats]
]
messages += [
    LogMessage(topics.POWER, n, *codec.encode(Event("p", 1, n, "c", "w", b)))
    for n, b in enumerate([power, power_batch("n", [], t_ms=T0 + 100_000)])
]
assert not state.ingest(messages, T0 + 200_000)
closed = state.advance(T0 + 200_000)
column = lambda table: int(np.asarray(table["video_tokens"]).sum())
result["rows"] = {n: column(t) for n, t in closed.tables.items() if n != "gpu_energy"}

warehouse = connect(f"chdb://{sys.argv[1]}")
migrate(warehouse)
sink, period = Sink(warehouse), Period(T0, T0 + 24 * HOUR)
for name, table in closed.tables.items():
    sink.write(name, table)
sink.refresh_hours([T0], ["c"], ["w"])
reader = operator_reader(warehouse)
result["restated"] = column(restate(closed.tables, Policy(), 1, log_id="log", log_partition=0)["ledger"])
result["chargeback"] = {
    "windows": chargeback(reader, Period(T0, T0 + 60_000), by=["tenant"]).rows[0].video_tokens,
    "hours": chargeback(reader, Period(T0, T0 + HOUR), by=["tenant"]).rows[0].video_tokens,
    "days": chargeback(reader, period, by=["tenant"]).rows[0].video_tokens,
}
result["ledger"] = sum(row.video_tokens for row in ledger_rows(reader, period).rows)
result["requests"] = sum(row.video_tokens for row in requests(reader, period).rows)
result["zones"] = sorted({row["zone"] for row in warehouse.query("SELECT zone FROM request_energy FINAL")})
result["session"] = session(reader, "s").video_tokens

plain = UsageRow(meter="gpu_minutes", unit="min", quantity="1.5", t0_ms=T0, t1_ms=T0 + 1)
usage = usage_batch([plain._replace(zone="eu"), plain], T0)
micro_batch = UsageMicroBatch("log", UsageLimits())
for n, content_type in enumerate((codec.PACKED, codec.JSON)):
    message = codec.encode(Event("u", 1, n, "c", "w", usage), content_type=content_type)
    micro_batch.add(UsageMessage(0, n, T0, True, *message), T0)
sink.write("usage", usage_rows(micro_batch, np.ones(4, np.bool_)))
result["usage"] = sorted(row["zone"] for row in warehouse.query("SELECT zone FROM usage FINAL"))

# Last, because it adds rows: the demo's fleet, without the column.
settings = Settings(warehouse_dsn=f"chdb://{sys.argv[1]}")
document = json.dumps(create_app(warehouse, settings).openapi())
assert '"video_tokens": 0' in document, "no example shows it"
result["lacking_in_api"] = document.count('"completion_tokens": ') - document.count('"video_tokens": ')
demo_history.HISTORY_START_MS = demo_history.LIVE_START_MS - 3 * HOUR
result["demo_hours"] = demo_history.store_history(warehouse, settings, 1).hours
demo = Period(demo_history.HISTORY_START_MS, demo_history.LIVE_START_MS)
bill = chargeback(reader, demo, by=["tenant"]).rows
result["demo_video"] = sum(row.video_tokens for row in bill)
assert sum(row.energy_uj for row in bill) > 0 and sum(row.completion_tokens for row in bill) > 0
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages with the new column: every edit that it takes, apart from tests and documents."""
    tree = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, pattern, text in EDITS:
        file = tree / name
        edited, count = re.subn(pattern, text, file.read_text())
        assert count, f"{name}: the place of the edit is gone; say where it is now"
        file.write_text(edited)
    (tree / MIGRATION).write_text(MIGRATION_TEXT)
    return tree


def test_a_column_takes_one_declaration_a_migration_and_at_most_four_more_files() -> None:
    assert len({name for name, _, _ in EDITS} | {MIGRATION}) <= 6


def test_no_query_and_no_schema_lists_the_token_columns_by_hand() -> None:
    files = [f for f in (ROOT / "warehouse").rglob("*.sql") if f.parent.name != "migrations"]
    files += [ROOT / "contracts" / name for name in ("packed.py", "json_body.py", "joined_batches.py", "rows.py")]
    texts = {str(f.relative_to(ROOT)): TOTAL.sub("", f.read_text()) for f in files}
    named = {f for f, text in texts.items() for name in TOKENS if re.search(rf"\b{name}\b", text)}
    assert named == NOT_LISTS.keys(), "list them as $tokens{...} (warehouse/sql_files.py), or by TOKENS"


@pytest.mark.slow
def test_new_columns_travel_from_requests_and_usage_to_the_bill(tree: Path, tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", dedent(JOURNEY), str(tmp_path / "chdb")],
        cwd=tree, env={"PYTHONPATH": str(tree)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    total = 2 * (41 + 60)  # The second event sends the last two requests again, as JSON.
    assert result == {
        "tokens": [*TOKENS, "video_tokens"],
        "packed": [0, 41, 60],
        "json": [0, 41, 60],
        "left_out": True,
        "rows": {"token_usage": total, "request_energy": total, "ledger": total},
        "restated": total,
        "chargeback": {"windows": total, "hours": total, "days": total},
        "ledger": total,
        "requests": total,
        "zones": ["", "eu"],
        "session": total,
        "usage": ["", "", "eu", "eu"],
        "lacking_in_api": 0,
        "demo_hours": 3,
        "demo_video": 0,
    }
