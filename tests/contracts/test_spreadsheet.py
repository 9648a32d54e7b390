"""XLSX keeps every digit, runs no text, and has no sheet that is too long."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from contracts.spreadsheet import MAX_TEXT, Spreadsheet
from tests.support.sheets import sheets

CREATED = datetime(2026, 10, 2, tzinfo=UTC)


def written(rows: list[dict[str, Any]], columns: list[str], **options: Any) -> bytes:
    file = io.BytesIO()
    with Spreadsheet(file, CREATED, **options) as book:
        book.add("Rows", rows, columns)
    return file.getvalue()


def cell(value: Any, sheet: str = "Rows") -> Any:
    rows = sheets(written([{"a": value}], ["a"]))[sheet]
    return rows[1][0] if len(rows) > 1 and rows[1] else None


def test_a_number_of_more_than_fifteen_digits_is_exact_in_the_twin() -> None:
    value = 12_345_678_901_234_567_891
    assert f"{cell(value):.15g}" == f"{value:.15g}" == "1.23456789012346e+19"
    assert cell(value, "Rows exact") == str(value)
    assert cell(Decimal("0.123456789012345678"), "Rows exact") == "0.123456789012345678"


def test_money_is_a_number_that_sums() -> None:
    rows = sheets(written([{"a": Decimal("0.10")}, {"a": Decimal("0.20")}], ["a"]))["Rows"]
    assert [row[0] for row in rows] == ["a", 0.1, 0.2]


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "@SUM(A1)", "-2+3", "\t=1", '=HYPERLINK("http://x")', "1e5", "007", "TRUE"]
)
def test_a_text_stays_a_text(text: str) -> None:
    assert cell(text) == text


def test_a_text_that_a_spreadsheet_might_run_is_marked_as_quoted() -> None:
    import zipfile

    with zipfile.ZipFile(io.BytesIO(written([{"a": "=1+1"}], ["a"]))) as archive:
        assert b'quotePrefix="1"' in archive.read("xl/styles.xml")


@pytest.mark.parametrize("text", ["\x00\x01", "\ufffe", "a\nb", "🔌 ünï", "<&>\"'", " spaces "])
def test_every_character_leaves_the_file_readable(text: str) -> None:
    assert cell(text)


def test_a_text_that_is_too_long_says_that_it_was_cut() -> None:
    text = cell("x" * (MAX_TEXT + 1))
    assert len(text) == MAX_TEXT
    assert text.endswith("CSV has all of it)")


def test_nothing_is_an_empty_cell() -> None:
    assert cell(None) is cell("") is None


def test_a_full_sheet_is_continued_in_another_one() -> None:
    book = sheets(written([{"a": n} for n in range(5)], ["a"], max_rows=3))
    assert {name: [row[0] for row in rows] for name, rows in book.items()} == {
        "Rows": ["a", 0, 1], "Rows exact": ["a", "0", "1"], "Rows 2": ["a", 2, 3], "Rows exact 2": ["a", "2", "3"],
        "Rows 3": ["a", 4], "Rows exact 3": ["a", "4"],
    }  # fmt: skip


def test_no_rows_are_a_header() -> None:
    assert sheets(written([], ["a", "b"])) == {"Rows": [["a", "b"]]}


def test_the_same_rows_are_the_same_bytes() -> None:
    assert written([{"a": 1}], ["a"]) == written([{"a": 1}], ["a"])
