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
from typer.testing import CliRunner

from cli.main import app
from tests.warehouse.billing.quarter import finish, price, use
from warehouse.client import Warehouse, connect
from warehouse.migrate import migrate

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
    actions = [entry["action"] for entry in json.loads(run("audit", "log", "--format", "json").stdout)]
    assert [action for action in actions if action != "export"] == ["book.put", "period.close", "period.reopen"]


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


WRONG = [
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


def test_a_dry_run_of_a_book_shows_the_difference_and_stores_nothing(run: Run, book: str) -> None:
    result = run("book", "set", book, "--dry-run")
    assert '+meter = "output_tokens"' in result.stdout
    assert json.loads(run("book", "list", "--json").stdout) == []
