"""Text files as written by common tools."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.errors import BadInput
from producers.recordings.base import BadRow, offset_ms
from producers.recordings.csv_table import BadCell, CsvLine, CsvTable
from producers.recordings.text_lines import MAX_LINE, read_lines, time_ms

T = 1_689_329_426_905


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2023-07-14T10:10:26.905Z", T),
        ("2023-07-14T12:10:26.905+02:00", T),
        ("2023-07-14 10:10:26.905", T),
        ("2023/07/14 10:10:26.905", T),
        ("2023-07-14 10:10:26.9059999", T),
        ("1689329426905", T),
        ("1689329426.905", T),
        ("1689329426.9059", T),
        ("1689329426", T - 905),
        ("1970-01-01", 0),
        ("0", 0),
    ],
)
def test_times_are_read_by_the_documented_rule(text: str, ms: int) -> None:
    assert time_ms(text) == ms


def test_only_a_time_without_a_zone_gets_the_offset() -> None:
    assert time_ms("2023-07-14 12:10:26.905", offset_ms("+02:00")) == T
    assert time_ms("2023-07-14 10:10:26.905Z", offset_ms("+02:00")) == T
    assert time_ms("1689329426905", offset_ms("-07:00")) == T


@pytest.mark.parametrize(
    "text", ["", "x", "1969-12-31", "17 July", "1e9", "168932942690500000", "2023-13-01", "²", "٣"]
)
def test_text_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"time|1970|large"):
        time_ms(text)


@pytest.mark.parametrize(("text", "minutes"), [("Z", 0), ("+02:00", 120), ("-0730", -450), ("+00:00", 0)])
def test_offsets_are_read(text: str, minutes: int) -> None:
    assert offset_ms(text) == minutes * 60_000


@pytest.mark.parametrize("text", ["", "2", "+2:00", "+15:00", "CET", "+01:60"])
def test_text_that_is_no_offset_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="utc_offset"):
        offset_ms(text)


def _cells(path: Path) -> list[tuple[str, str] | str]:
    table = CsvTable(path, {"a": ("a", "alpha"), "b": ("b",)}, ("a",))
    return [(i.get("a"), i.get("b")) if isinstance(i, CsvLine) else i.reason for i in table]


@pytest.mark.parametrize(
    "content",
    [
        b"a,b\n1,2\n",
        b"a,b\r\n1,2",
        b"\xef\xbb\xbfa,b\n1,2\n",
        "a,b\r\n1,2\r\n".encode("utf-16"),
        b"\n\na,b\n\n 1 , 2 \n\n",
        b'"a","b"\n"1","2"\n',
        b"B [W],other, ALPHA [%]\n2,x,1\n",
    ],
    ids=["plain", "CRLF, no end", "BOM", "UTF-16", "blanks", "quotes", "order, case, units, alias"],
)
def test_all_spellings_of_a_table_give_the_same_cells(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "f.csv"
    path.write_bytes(content)
    assert _cells(path) == [("1", "2")]


def test_a_stray_quote_spoils_one_line_only(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_bytes(b'a,b\n"1,2\n3,4\n5\n')
    assert _cells(path) == [
        "a quote is not closed, or is in the middle of a cell",
        ("3", "4"),
        "1 cells, but the header has 2",
    ]


def test_quoted_commas_are_part_of_a_cell(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_bytes(b'a,b\n"x, ""y""",2\n')
    assert _cells(path) == [('x, "y"', "2")]


def test_an_endless_line_is_reported_and_skipped(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_bytes(b"a,b\n" + b"9" * (3 * MAX_LINE) + b"\n1,2\n")
    assert _cells(path) == [f"longer than {MAX_LINE} characters", ("1", "2")]


def test_line_numbers_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_bytes(b"a,b\n\n1,2\nbad\n")
    assert [i.line if isinstance(i, BadRow) else i[0] for i in read_lines(path)] == [1, 3, 4]


def test_a_missing_column_is_named_with_the_present_ones(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_bytes(b"x;y\n1;2\n")
    with pytest.raises(BadInput, match=r"'x;y'.*f\.csv also needs a and b"):
        CsvTable(path, {"a": ("a",), "b": ("b",)}, ("a", "b"))


@pytest.mark.parametrize(("content", "message"), [(b"", "is empty"), (b"\n\n", "is empty"), (b"a,a\n", "2 times")])
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "f.csv"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=message):
        CsvTable(path, {"a": ("a",)}, ("a",))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nowhere\.csv"):
        list(read_lines(tmp_path / "nowhere.csv"))


def test_non_text_bytes_are_refused_in_names_and_reported_printably(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_bytes(b"a,b\nte\xffst,2\n")
    line = next(i for i in CsvTable(path, {"a": ("a",)}, ("a",)) if isinstance(i, CsvLine))
    with pytest.raises(BadCell) as caught:
        line.text("a", "")
    report = line.bad(caught.value)
    assert (report.file, report.line, report.column) == ("f.csv", 2, "a")
    assert report.value.isprintable()
    assert "line 2, column 'a'" in str(report)
