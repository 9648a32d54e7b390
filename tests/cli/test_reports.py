"""Reports over the ledger: data on stdout, notes on stderr, and exit statuses for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cli.main import app
from tests.support import seeded_ledger as seed
from warehouse.client import Warehouse, connect
from warehouse.migrate import migrate

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def ledger(chdb_dsn: str) -> Iterator[Warehouse]:
    """The seeded ledger in the folder of `--data`."""
    with connect(chdb_dsn, database="default", readers=1) as warehouse:
        warehouse.command("DROP DATABASE IF EXISTS wattlog")
    with connect(chdb_dsn) as warehouse:
        migrate(warehouse)
        seed.lay(warehouse)
        yield warehouse
    with connect(chdb_dsn, database="default", readers=1) as warehouse:
        warehouse.command("DROP DATABASE IF EXISTS wattlog")


@pytest.fixture
def run(ledger: Warehouse, data_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "none.toml"))

    def command(*arguments: str, **more: object) -> Result:
        return CliRunner().invoke(app, list(arguments), env={"WATTLOG_DATA": str(data_dir)}, **more)  # type: ignore[arg-type]

    return command


@pytest.mark.parametrize(
    ("options", "variables", "day"),
    [
        (["--tz", "Asia/Kolkata"], {}, "2026-11-01"),
        ([], {"WATTLOG_TIME_ZONE": "Asia/Kolkata"}, "2026-11-01"),
        (["--tz", "UTC"], {"WATTLOG_TIME_ZONE": "Asia/Kolkata"}, "2026-10-31"),
    ],
)
def test_days_are_those_of_the_option_or_the_setting(
    run: Run, monkeypatch: pytest.MonkeyPatch, options: list[str], variables: dict[str, str], day: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    result = run("chargeback", "--by", "day", "--cluster", "eu-1", "--period", "all", "--format", "csv", *options)
    assert [row["day"] for row in csv.DictReader(io.StringIO(result.stdout))] == [day]


def test_a_zone_that_does_not_exist_is_refused_with_the_nearest(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Europe/Lisbon" in run("chargeback", "--tz", "Europe/Lisbn").stderr
    monkeypatch.setenv("WATTLOG_TIME_ZONE", "Europe/Lisbn")
    assert "time_zone" in run("chargeback").stderr


def test_requests_are_listed_and_each_has_a_receipt(run: Run) -> None:
    listed = json.loads(run("requests", "--period", "2026-10-31", "--cluster", "eu-1", "--json").stdout)["rows"]
    assert listed and {row["cluster"] for row in listed} == {"eu-1"}
    first = listed[0]
    only = ("--tenant", first["tenant"], "--cluster", "eu-1", "--model", first["model"])
    receipt = json.loads(run("receipt", first["request_id"], *only, "--json").stdout)
    assert receipt["request"] == first
    assert receipt["operation"]["totals"] == [{"side": "cost", "currency": "USD", "amount": receipt["cost"]}]
    text = run("receipt", first["request_id"], *only).stdout
    assert f"{first['energy_uj']:,} uJ" in text and receipt["windows"][0]["ledger_sha256"] in text
    assert f"cost      {receipt['cost']} USD" in text
    table = run("requests", "--period", "2026-10-31", "--cluster", "eu-1").stdout
    assert first["request_id"] in table and "J/token" in table
    costed = run("requests", "--period", "2026-10-31", "--cluster", "eu-1", "--cost", "--format", "csv").stdout
    assert next(csv.DictReader(io.StringIO(costed)))["cost"] == receipt["cost"]


def test_an_unknown_receipt_says_where_ids_are(run: Run) -> None:
    result = run("receipt", "none-such")
    assert result.exit_code != 0 and "`requests` lists them" in result.stderr


def test_chargeback_as_json_has_integer_energies_and_money_as_text(run: Run) -> None:
    body = json.loads(run("chargeback", "--json").stdout)
    assert {r["tenant"] for r in body["rows"]} == {"__unallocated__", "acme", "globex", "initech"}
    assert sum(Decimal(r["cost"]) for r in body["rows"]) == Decimal(body["total"]["cost"])
    assert all(type(r["energy_uj"]) is int for r in body["rows"])
    assert body["simulated"] is True


def test_a_table_names_its_units_and_is_marked_simulated(run: Run) -> None:
    out = run("chargeback", "--by", "tenant").stdout
    for word in ("energy kWh", "J/token", "CO2eq kg", "cost", "acme", "total", "SIMULATED"):
        assert word in out
    assert "SIMULATED" not in run("chargeback", "--cluster", "eu-1").stdout


def test_csv_has_a_header_and_unrounded_values(run: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(run("chargeback", "--by", "model", "--format", "csv").stdout)))
    assert [r["model"] for r in rows] == ["", "coder-32b", "llama-70b", "qwen-32b"]
    assert rows[1]["energy_uj"].isdecimal()


def test_a_truncated_table_has_a_note_on_stderr(run: Run) -> None:
    result = run("chargeback", "--by", "day", "--limit", "2", "--format", "csv")
    assert len(result.stdout.splitlines()) == 3
    assert "--limit" in result.stderr and "--limit" not in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [("fleet",), ("efficiency",), ("anomalies",), ("forecast",), ("audit",), ("explain", "acme"), ("sql", "SELECT 1")],
)
def test_every_report_prints_only_json_on_stdout(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    json.loads(result.stdout)


@pytest.mark.parametrize(
    "arguments",
    [("fleet",), ("efficiency",), ("anomalies",), ("forecast", "--by", "total"), ("audit",), ("explain", "acme")],
)
def test_every_report_prints_a_table_for_people(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout or "No anomalies in" in result.stderr


def test_audit_prints_the_figures_for_programs(run: Run) -> None:
    result = run("audit", "--json")
    body = json.loads(result.stdout)
    assert result.exit_code == 0
    assert body["residual_uj"] == body["sequence_gaps"] == 0
    assert body["windows"] > 0 and body["coverage_ratio"] == 1.0
    assert body["measured_uj"] == body["active_uj"] + body["idle_uj"] + body["unallocated_uj"]


def test_audit_fails_with_status_1_on_a_residual_of_one_microjoule(run: Run, ledger: Warehouse) -> None:
    change = (
        "INSERT INTO ledger SELECT * REPLACE (active_uj + {by:Int64} AS active_uj, version + 1 AS version) "
        "FROM ledger FINAL WHERE tenant = 'acme' AND hardware = 'A100' "
        "AND window_start = fromUnixTimestamp64Milli({at:Int64}, 'UTC')"
    )
    ledger.command(change, by=1, at=seed.REAL_START_MS)
    try:
        result = run("audit", "--json", "--patience", "0")
        assert result.exit_code == 1
        assert json.loads(result.stdout)["residual_uj"] == 1
        assert run("audit", "--patience", "0").exit_code == 1
    finally:
        ledger.command(change, by=-1, at=seed.REAL_START_MS)
    assert run("audit").exit_code == 0


def test_explain_walks_from_money_to_the_gpus(run: Run) -> None:
    out = run("explain", "acme", "--window", "latest").stdout
    for word in (
        "USD",
        "tariff 0.313 USD/kWh (eu-1",
        "PUE 1.25",
        "its work / all work",
        "idle = 90 W",
        "GPU-a",
        "weights version 1",
    ):
        assert word in out
    assert "SIMULATED" in run("explain", "initech").stdout


def test_figures_per_million_tokens_take_the_place_of_totals(run: Run) -> None:
    result = run("chargeback", "--per-million", "--period", "latest-day", "--cluster", "eu-1")
    assert "J/1M input" in result.stdout and "cost/1M output" in result.stdout
    assert "kWh belong to no kind of token" in result.stderr
    rows = json.loads(run("efficiency", "--per-million", "--period", "latest-day", "--json").stdout)["rows"]
    assert any(row["joules_per_million_output"] for row in rows)


def test_the_fleet_by_groups_ends_with_a_total_that_counts_each_gpu_once(run: Run) -> None:
    result = run("fleet", "--by", "cluster", "--period", "latest-day", "--json")
    answer = json.loads(result.stdout)
    assert {row["cluster"]: row["gpus"] for row in answer["rows"]} == {"eu-1": 5, "sim-1": 2}
    assert answer["total"]["gpus"] == 7
    table = run("fleet", "--compare", "2026-09", "--by", "model").stdout
    assert "compared with 2026-09" in table and "change %" in table and "total" in table
    assert run("fleet", "--by", "nodes").exit_code == 2


def test_sql_asks_saved_questions_by_name(run: Run) -> None:
    assert "month_over_month" in run("sql", "--saved", "list").stdout
    rows = json.loads(run("sql", "--saved", "cache_hit_share", "--json").stdout)
    counts = {"prompt_tokens": 928515, "cached_tokens": 185417, "cached_percent": 20.0}
    assert rows[0] == {"tenant": "acme", "model": "coder-32b", **counts}
    for refused in (("sql",), ("sql", "SELECT 1", "--saved", "failures"), ("sql", "--saved", "failure")):
        assert run(*refused).exit_code == 2


def test_sql_prints_a_table_csv_and_json(run: Run) -> None:
    question = "SELECT tenant, count() AS n FROM ledger FINAL WHERE cluster = 'eu-1' GROUP BY tenant ORDER BY tenant"
    assert json.loads(run("sql", question, "--json").stdout)[0] == {"tenant": "__unallocated__", "n": 720}
    assert run("sql", question, "--format", "csv").stdout.splitlines()[0] == "tenant,n"
    assert "globex" in run("sql", question).stdout
    assert json.loads(run("sql", "-", "--json", input="SELECT 42 AS answer").stdout) == [{"answer": 42}]


def test_sql_writes_times_decimals_and_non_numbers_as_json(run: Run) -> None:
    question = (
        "SELECT toDateTime64('2026-11-01 00:00:00', 3, 'UTC') AS t, toDecimal64('0.10', 2) AS d, nan AS x, [1, 2] AS a"
    )
    assert json.loads(run("sql", question, "--json").stdout) == [
        {"t": "2026-11-01T00:00:00Z", "d": "0.10", "x": None, "a": [1, 2]}
    ]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("sql", "DROP TABLE ledger"), "sql"),
        (("explain", "nobody"), "tenant"),
        (("chargeback", "--by", "planet"), "by"),
        (("chargeback", "--period", "soon"), "period"),
        (("forecast", "--measure", "joy"), "measure"),
        (("anomalies", "--freq", "year"), "freq"),
    ],
)
def test_an_error_is_one_line_on_stderr_with_status_2(run: Run, arguments: tuple[str, ...], word: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ") and word in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_missing_ledger_says_how_to_make_one(run: Run, tmp_path: Path) -> None:
    result = run("fleet", "--data", str(tmp_path / "none"))
    assert result.exit_code == 2
    assert "wattlog demo" in result.stderr
    assert not (tmp_path / "none").exists()


def test_a_ledger_of_an_earlier_version_says_which_command_brings_it_here(run: Run, ledger: Warehouse) -> None:
    gone = "name = '0010_latencies'"
    ledger.command(f"ALTER TABLE migrations DELETE WHERE {gone} SETTINGS mutations_sync = 1")
    try:
        result = run("chargeback")
        assert result.exit_code == 2
        assert "0010_latencies" in result.stderr and "wattlog migrate" in result.stderr
        assert "Traceback" not in result.stderr
    finally:
        migrate(ledger)


def test_every_command_has_an_example_in_its_help(run: Run) -> None:
    for name in ("chargeback", "fleet", "efficiency", "anomalies", "forecast", "audit", "explain", "sql"):
        assert f"wattlog {name}" in run(name, "--help").stdout


@pytest.mark.parametrize("command", ["chargeback", "efficiency", "forecast", "anomalies"])
def test_a_boundary_that_nothing_was_measured_in_is_named(run: Run, command: str) -> None:
    result = run(command, "--boundary", "host")
    assert result.exit_code == 0, result.output
    assert (
        "No energy of hosts was measured in eu-1, sim-1: these figures have no more than GPUs there." in result.stderr
    )


def test_an_unknown_boundary_is_refused(run: Run) -> None:
    assert run("chargeback", "--boundary", "rack").exit_code == 2


@pytest.mark.parametrize("command", ["chargeback --by hour,tenant,model", "efficiency --by tenant,model --bucket hour"])
def test_csv_and_json_have_every_row_unless_a_limit_is_given(run: Run, command: str) -> None:
    words = [*command.split(), "--period", "all"]
    rows = list(csv.DictReader(io.StringIO(run(*words, "--format", "csv").stdout)))
    body = json.loads(run(*words, "--json").stdout)
    assert len(rows) == len(body["rows"]) > 1_000 and body["next"] is None
    assert [row["energy_uj"] for row in rows] == [str(row["energy_uj"]) for row in body["rows"]]
    assert len(list(csv.DictReader(io.StringIO(run(*words, "--format", "csv", "--limit", "5").stdout)))) == 5
    few = run(*words, "--limit", "5", "--json")
    assert len(json.loads(few.stdout)["rows"]) == 5 and "more than these 5 rows" in few.stderr


@pytest.mark.parametrize("command", ["usage", "sessions", "fleet", "latency --by hour,tenant"])
def test_csv_and_json_of_other_reports_have_the_same_rows(run: Run, command: str) -> None:
    words = [*command.split(), "--period", "all"]
    rows = list(csv.DictReader(io.StringIO(run(*words, "--format", "csv").stdout)))
    assert len(rows) == len(json.loads(run(*words, "--json").stdout)["rows"]) > 0


def test_a_csv_that_cannot_be_whole_ends_with_a_status(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warehouse.chargeback.chargeback_queries.MAX_EXPORT_ROWS", 10)
    ran = run("chargeback", "--by", "hour", "--period", "all", "--format", "csv")
    assert ran.exit_code == 2 and "more than 10 rows" in ran.stderr


@pytest.mark.parametrize("command", ["chargeback", "efficiency", "latency", "usage", "sessions"])
@pytest.mark.parametrize("format_", ["table", "csv", "json"])
def test_an_unknown_tenant_ends_a_report_with_the_nearest_name(run: Run, command: str, format_: str) -> None:
    ran = run(command, "--tenant", "acmee", "--format", format_)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "the ledger has no tenant of this name; did you mean acme?" in ran.stderr


@pytest.mark.parametrize("command", ["chargeback", "efficiency", "latency", "fleet"])
def test_a_report_of_a_period_outside_the_ledger_says_what_it_holds(run: Run, command: str) -> None:
    ran = run(command, "--period", "2031-01", "--json")
    assert ran.exit_code == 3 and json.loads(ran.stdout)["coverage"] is None
    assert "The ledger holds nothing of" in ran.stderr and "2026-09-02" in ran.stderr


def test_a_report_of_a_period_held_in_part_says_so(run: Run) -> None:
    ran = run("chargeback", "--period", "2026-09", "--json")
    assert ran.exit_code == 0 and "Of this period the ledger covers 2026-09-02" in ran.stderr
    assert json.loads(ran.stdout)["coverage"]["start"] == "2026-09-02T00:00:00.000Z"
    assert "covers" not in run("chargeback").stderr
