"""CSV is safe to open in a spreadsheet: no name of a client's runs as a formula, and no number changes."""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.options import Format
from cli.output import print_csv
from cli.tables import print_sql_result
from contracts.csv_text import CHUNK_ROWS, csv_pieces, plain_text, safe_cell, safe_text

FORMULAS = (
    "=1+1", "+1+1", "-1+1", "@SUM(1)", "\t=1", "\r=1", "\n=1", "=cmd|' /C calc'!A0", '=HYPERLINK("http://x","y")',
    " =1+1", "\u00a0=1", "\ufeff=1", "\u200b=1", "\0=1", "\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20SUM(1)", "'=1",
    "''=1", "-", "+5", "-5-5", "-x", "=", "\u3000=1",
)  # fmt: skip
PLAIN = (
    "acme",
    "a=b",
    "a-b",
    "1-1",
    "",
    "'",
    "'acme",
    "it's",
    "-5",
    "-5.25",
    "1e5",
    "-1E+3",
    "tenant@example.org",
    "ä",
)


@pytest.mark.parametrize("text", FORMULAS)
def test_a_text_that_a_spreadsheet_might_run_begins_with_an_apostrophe(text: str) -> None:
    assert safe_text(text) == f"'{text}"


@pytest.mark.parametrize("text", PLAIN)
def test_another_text_and_a_number_stay_as_they_are(text: str) -> None:
    assert safe_text(text) == text


@pytest.mark.parametrize("value", [-1, -1.5, Decimal("-1.5"), Decimal("-1E+3"), 0, 2**63])
def test_a_number_is_never_changed(value: Any) -> None:
    assert Decimal(str(safe_cell(value))) == Decimal(str(value))


@given(st.text(alphabet=st.sampled_from("='+-@\t\r\n \uff1da1.\ufeff")) | st.text())
def test_the_apostrophe_can_be_taken_off_again(text: str) -> None:
    assert plain_text(safe_text(text)) == text


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=5))
def test_no_cell_begins_as_a_formula_and_each_reads_back(names: list[str]) -> None:
    rows = [{"tenant": name, "cost": "-1.25", "energy_uj": -1} for name in names]
    written = "".join(csv_pieces(rows, ["tenant", "cost", "energy_uj"]))
    cells = list(csv.reader(io.StringIO(written, newline="")))[1:]
    assert [plain_text(tenant) for tenant, _, _ in cells] == names
    assert all(numbers == ["-1.25", "-1"] for _, *numbers in cells)
    assert not [tenant for tenant, _, _ in cells if tenant[:1] in "=+@\t\r" and tenant]


def test_lists_and_objects_are_safe_as_the_cells_that_they_become() -> None:
    assert safe_cell(["=1", "x"]) == "'=1;x"
    assert safe_cell({"a": "@x", "b": None}) == "'@x:"


def test_many_rows_come_in_pieces() -> None:
    pieces = list(csv_pieces([{"n": n} for n in range(2 * CHUNK_ROWS + 1)], ["n"]))
    assert len(pieces) == 3
    assert "".join(pieces).splitlines() == ["n", *map(str, range(2 * CHUNK_ROWS + 1))]


def test_the_commands_write_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    print_csv([{"tenant": "=1"}], ["tenant"])
    print_sql_result(["=alias", "n"], [["@x", -1], [["=1"], Decimal("-1")]], Format.CSV)
    assert capsys.readouterr().out.splitlines() == ["tenant", "'=1", "'=alias,n", "'@x,-1", '"[""=1""]",-1']
