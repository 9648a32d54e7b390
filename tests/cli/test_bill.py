"""A month's bill on the command line: the book, the draft, the closing, the invoice and the reopening."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import Result
from pyarrow import parquet
from typer.testing import CliRunner

from cli.main import app
from tests.warehouse.billing.quarter import finish, price, use
from warehouse.client import Warehouse, connect
from warehouse.migrate import migrate

pytestmark = pytest.mark.slow

Run = Callable[..., Result]
BOOK = 'currency = "EUR"\n[[rates]]\nname = "out"\nmeter = "output_tokens"\nprice = "2"\nper = 1_000_000\n'


@pytest.fixture
def ledger(chdb_dsn: str) -> Iterator[Warehouse]:
    """September with 100 kWh of acme and 50 kWh of beta, and a window in December."""
    with connect(chdb_dsn, database="default", readers=1) as warehouse:
        warehouse.command("DROP DATABASE IF EXISTS wattlog")
    with connect(chdb_dsn) as warehouse:
        migrate(warehouse)
        price(warehouse)
        use(warehouse, "2026-09-03T10:00:00Z", 100)
        use(warehouse, "2026-09-20T10:00:10Z", 50, tenant="beta")
        finish(warehouse)
        yield warehouse
    with connect(chdb_dsn, database="default", readers=1) as warehouse:
        warehouse.command("DROP DATABASE IF EXISTS wattlog")


@pytest.fixture
def run(ledger: Warehouse, data_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setenv("WATTLOG_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setenv("WATTLOG_CURRENCY", "EUR")
    monkeypatch.setenv("WATTLOG_AUDIT_LOG", str(tmp_path / "audit.jsonl"))

    def command(*arguments: str, **more: object) -> Result:
        return CliRunner().invoke(app, list(arguments), env={"WATTLOG_DATA": str(data_dir)}, **more)  # type: ignore[arg-type]

    return command


@pytest.fixture
def book(tmp_path: Path) -> str:
    (tmp_path / "book.toml").write_text(BOOK)
    return str(tmp_path / "book.toml")


def test_a_month_from_the_book_to_the_invoice_and_back(run: Run, book: str) -> None:
    assert run("book", "set", book).exit_code == 0
    draft = json.loads(run("bill", "2026-09", "--json").stdout)
    assert draft["state"] == "provisional"
    assert draft["totals"] == [
        {"tenant": "acme", "currency": "EUR", "side": "cost", "total": "215.00"},
        {"tenant": "beta", "currency": "EUR", "side": "cost", "total": "107.50"},
    ]
    closing = json.loads(run("close", "2026-09", "--json").stdout)
    again = run("bill", "2026-09", "--json")
    assert json.loads(again.stdout)["lines"] == draft["lines"]
    assert json.loads(again.stdout)["closing"]["lines_sha256"] == closing["lines_sha256"]
    assert run("bill", "2026-09", "--json").stdout == again.stdout
    invoice = run("bill", "2026-09", "--tenant", "acme", "--format", "html").stdout
    assert "215.00 EUR" in invoice
    assert closing["lines_sha256"] in invoice
    (row, *_) = csv.DictReader(io.StringIO(run("bills", "--format", "csv").stdout))
    assert (row["period"], row["state"], row["total"]) == ("2026-09", "closed", "322.50 EUR")
    assert run("reopen", "2026-09").exit_code == 2
    assert run("reopen", "2026-09", "--reason", "tariff").exit_code == 0
    assert json.loads(run("bill", "2026-09", "--json").stdout)["state"] == "provisional"
    entries = json.loads(run("audit", "log", "--format", "json").stdout)
    changes = [entry["action"] for entry in entries if entry["outcome"] == "done" and entry["action"] != "export"]
    assert changes == ["book.put", "period.close", "period.reopen"]


def test_a_line_explains_itself(run: Run) -> None:
    (line, _) = json.loads(run("bill", "2026-09", "--json").stdout)["lines"]
    result = run("bill", "2026-09", "--line", line["line_id"])
    assert "150 kWh of the facility, by the tariffs of cluster eu" in result.stdout
    assert "rounded to 15.00" in result.stdout
    assert run("bill", "2026-09", "--line", "0123").exit_code == 2


def test_csv_of_a_bill_sums_to_its_total(run: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(run("bill", "2026-09", "--format", "csv").stdout)))
    assert sum(Decimal(row["amount"]) for row in rows) == Decimal("22.50")
    assert {row["line_start"] for row in rows} == {"2026-09-01T00:00:00.000Z"}


def test_a_closed_month_is_exported_as_focus(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "focus"
    assert run("export", "focus", "2026-09", "--out", str(out)).exit_code == 2
    assert run("export", "focus", "2026-09", "--out", str(out), "--draft").exit_code == 0
    assert run("close", "2026-09").exit_code == 0
    again = run("export", "focus", "2026-09", "--out", str(out))
    assert again.exit_code == 2
    assert "--force" in again.stderr
    assert run("export", "focus", "2026-09", "--out", str(out), "--force").exit_code == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "BillingPeriod.csv", "ContractCommitment.csv", "CostAndUsage.csv", "InvoiceDetail.csv",
    ]  # fmt: skip
    rows = list(csv.DictReader(io.StringIO((out / "CostAndUsage.csv").read_text())))
    assert sum(Decimal(row["BilledCost"]) for row in rows) == Decimal("22.50")
    assert {row["InvoiceId"] for row in rows} == {"2026-09.1/acme/EUR", "2026-09.1/beta/EUR"}
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".focus")] == []
    exports = [e for e in json.loads(run("audit", "log", "--format", "json").stdout) if e["action"] == "export"]
    assert len(exports) == 2


def test_focus_1_2_is_one_file_of_a_tenant(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "focus"
    command = ("export", "focus", "2026-09", "--draft", "--focus", "1.2", "--tenant", "beta", "--out", str(out))
    assert run(*command).exit_code == 0
    (row,) = csv.DictReader(io.StringIO((out / "CostAndUsage.csv").read_text()))
    assert (row["ProviderName"], row["BillingAccountId"], row["BilledCost"]) == ("Wattlog", "beta", "7.50")


def test_an_export_never_replaces_a_folder_with_other_files(run: Run, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    result = run("export", "focus", "2026-09", "--draft", "--force", "--out", str(tmp_path))
    assert result.exit_code == 2
    assert "other files" in result.stderr
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_lines_of_unknown_amount_are_named_by_an_export(run: Run, ledger: Warehouse, tmp_path: Path) -> None:
    ledger.command("TRUNCATE TABLE prices")
    result = run("export", "focus", "2026-09", "--draft", "--out", str(tmp_path / "focus"))
    assert result.exit_code == 0
    assert "2 lines of unknown amount are not in it" in result.stderr


def test_parquet_has_decimals_and_times(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "lines.parquet"
    assert run("export", "parquet", "2026-09", "--draft", "--out", str(out)).exit_code == 0
    assert run("export", "parquet", "2026-09", "--draft", "--out", str(out)).exit_code == 2
    table = parquet.read_table(out)
    assert str(table.schema.field("amount").type) == "decimal128(38, 3)"
    assert str(table.schema.field("line_start").type) == "timestamp[ms, tz=UTC]"
    assert sum(table["amount"].to_pylist()) == Decimal("22.50")
    assert table["energy_uj"].to_pylist() == [360_000_000_000_000, 180_000_000_000_000]


WRONG = [
    (["export", "focus", "2026-09", "--out", "x"], "it is provisional"),
    (["bill", "2026-9"], "PERIOD"),
    (["bill", "2026-09", "--tenant", "acne"], "acme, beta"),
    (["close", "2026-12"], "close it after 2027-01-01"),
    (["reopen", "2026-09", "--reason", "x"], "not closed"),
    (["book", "show"], "no such book"),
    (["book", "set", "/no/such/file"], "cannot be read"),
]


@pytest.mark.parametrize(("command", "message"), WRONG)
def test_a_wrong_command_names_what_is_wrong(run: Run, command: list[str], message: str) -> None:
    result = run(*command)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_month_outside_the_ledger_is_no_bill_of_nothing(run: Run) -> None:
    result = run("bill", "2024-01")
    assert result.exit_code == 3
    assert "holds nothing of" in result.stderr


def test_a_book_is_tried_on_a_made_up_month(run: Run, book: str) -> None:
    result = run("book", "test", book, "--use", "acme:output_tokens=2500000", "--use", "acme:calls=3")
    assert "acme  out  5.00 EUR" in result.stdout
    assert "2500000 token x 2 EUR per 1000000 = 5 EUR" in result.stdout
    assert "Without a rate in the book: calls." in result.stderr
    assert run("book", "test", book, "--use", "acme").exit_code == 2


def test_prices_test_is_book_test(run: Run, book: str) -> None:
    words = ("test", book, "--use", "acme:output_tokens=2500000")
    assert run("prices", *words).stdout == run("book", *words).stdout != ""
    assert run("tenants", *words).exit_code == 2


def test_a_dry_run_of_a_book_shows_the_difference_and_stores_nothing(run: Run, book: str) -> None:
    result = run("book", "set", book, "--dry-run")
    assert '+meter = "output_tokens"' in result.stdout
    assert json.loads(run("book", "list", "--json").stdout) == []
