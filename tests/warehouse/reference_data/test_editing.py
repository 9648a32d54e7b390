"""Edits of reference data: from texts to stored rows, refused as one, and with their effect on final hours."""

from __future__ import annotations

import re
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from contracts.errors import BadInput, BadRows
from contracts.units import epoch_ms, rfc3339
from tests.support import seeded_ledger as seed
from tests.support.ledger_rows import row
from tests.support.paths import ROOT
from warehouse.client import Warehouse
from warehouse.reader import operator_reader
from warehouse.reference_data.editing import Edit, edit_of, matching_rows, removal_of, store_edit
from warehouse.reference_data.fields import Reading
from warehouse.reference_data.files import MAX_ROWS, TextRow, read_file
from warehouse.reference_data.prices import Price, list_prices, put_prices
from warehouse.reference_data.tables import ALIASES, FLOORS, PRICES, TABLES, TENANTS, WEIGHTS, ReferenceTable
from warehouse.reference_data.tenants import list_tenants

PAGE = ROOT / "docs" / "reference-data.md"
NOW_MS = epoch_ms("2026-12-01T04:00:10Z")


def reading(zone: str = "UTC") -> Reading:
    return Reading(ZoneInfo(zone), NOW_MS, "EUR")


def imported(
    warehouse: Warehouse, table: ReferenceTable, text: str, *, replaces: bool = False, new_names: bool = True
) -> Edit:
    rows = read_file(table, text.encode(), "f.csv")
    return edit_of(operator_reader(warehouse), table, rows, reading(), "f.csv", replaces=replaces, new_names=new_names)


def put(warehouse: Warehouse, table: ReferenceTable, **texts: str) -> Edit:
    edit = edit_of(operator_reader(warehouse), table, [TextRow("", texts)], reading(), new_names=True)
    store_edit(operator_reader(warehouse), edit)
    return edit


def prices(warehouse: Warehouse) -> list[tuple[str, str, str]]:
    return [
        (str(row.value.normalize()), rfc3339(row.valid_from_ms)[:10], PRICES.texts(row)["valid_to"][:10])
        for row in list_prices(warehouse)
    ]


def price(warehouse: Warehouse, value: str, start: str, end: str = "") -> Edit:
    times = {"valid_from": start} | ({"valid_to": end} if end else {})
    return put(warehouse, PRICES, kind="energy", cluster="eu", value=value, **times)


def test_a_price_over_one_without_an_end_ends_it_there(warehouse: Warehouse) -> None:
    price(warehouse, "0.1", "2026-01-01")
    edit = price(warehouse, "0.2", "2026-07-01")
    assert prices(warehouse) == [("0.1", "2026-01-01", "2026-07-01"), ("0.2", "2026-07-01", "")]
    assert [(change.sort, change.follows) for change in edit.changes.changes] == [("changed", True), ("added", False)]


def test_a_price_of_some_days_interrupts_one_without_an_end(warehouse: Warehouse) -> None:
    price(warehouse, "0.1", "2026-01-01")
    price(warehouse, "0.2", "2026-07-01", "2026-08-01")
    assert prices(warehouse) == [
        ("0.1", "2026-01-01", "2026-07-01"), ("0.2", "2026-07-01", "2026-08-01"), ("0.1", "2026-08-01", ""),
    ]  # fmt: skip


def test_a_price_before_the_first_is_valid_until_that(warehouse: Warehouse) -> None:
    price(warehouse, "0.2", "2026-07-01")
    price(warehouse, "0.1", "always")
    price(warehouse, "0.15", "2026-03-01")
    assert prices(warehouse) == [
        ("0.1", "1970-01-01", "2026-03-01"), ("0.15", "2026-03-01", "2026-07-01"), ("0.2", "2026-07-01", ""),
    ]  # fmt: skip


def test_an_overlap_with_a_price_that_ends_is_refused_with_its_interval(warehouse: Warehouse) -> None:
    price(warehouse, "0.1", "2026-01-01", "2026-03-01")
    with pytest.raises(BadInput, match=r"--from.*from 2026-01-01T.* to 2026-03-01T.*give 2026-03-01T.* or later"):
        price(warehouse, "0.2", "2026-02-01", "2026-04-01")
    with pytest.raises(BadInput, match=r"--to.*from 2026-01-01T.* to 2026-03-01T.*give 2026-01-01T.* or before"):
        price(warehouse, "0.2", "2025-12-01", "2026-02-01")
    assert len(prices(warehouse)) == 1


def test_an_undated_price_starts_with_the_next_window_and_says_so(warehouse: Warehouse) -> None:
    edit = put(warehouse, PRICES, kind="energy", cluster="eu", value="-0.02")
    (stored,) = list_prices(warehouse)
    assert (stored.valid_from_ms, stored.value, stored.currency) == (NOW_MS, Decimal("-0.02"), "EUR")
    assert "Counts from 2026-12-01T04:00:10.000Z" in edit.notes[0]


def test_a_series_without_ends_is_valid_row_by_row_and_its_last_row_is_named(warehouse: Warehouse) -> None:
    text = "kind;cluster;value;valid_from\n" + "".join(
        f"energy;eu;0,1{n};2027-01-01T00:{15 * n:02d}:00Z\n" for n in range(4)
    )
    edit = imported(warehouse, PRICES, text)
    assert [row.after.valid_to_ms - row.after.valid_from_ms for row in edit.changes.changes[:3] if row.after] == [
        900_000
    ] * 3
    assert [str(change.after.value) for change in edit.changes.changes if change.after] == [
        "0.10",
        "0.11",
        "0.12",
        "0.13",
    ]
    assert "energy eu 2027-01-01T00:45:00.000Z to further notice" in edit.notes[0]


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_an_export_is_imported_without_a_difference(table: ReferenceTable, books: Warehouse) -> None:
    rows = table.stored(operator_reader(books))
    assert rows or table is ALIASES
    edit = edit_of(
        operator_reader(books), table, [TextRow(f"line {n}", table.texts(row)) for n, row in enumerate(rows)],
        reading(), "export.csv", replaces=True,
    )  # fmt: skip
    assert (edit.changes.changes, edit.changes.unchanged) == ([], len(rows))


def test_every_wrong_line_is_named_with_its_column_and_nothing_is_stored(warehouse: Warehouse) -> None:
    text = "kind,cluster,value,valid_from,valid_to\n" + "\n".join([
        "energy,eu,0.1,2027-01-01,2027-01-02",
        'energy,eu,"1,234",2027-01-02,2027-01-03',
        "energy,eu,1e-3,2027-01-03,2027-01-04",
        "energy,eu,0.1,01.02.2027,2027-02-04",
        "energy,eu,0.1,2027-01-05T00:00:03Z,2027-01-06",
        "energy,eu,0.1,2027-01-07,2027-01-06",
        "pue,eu,0.9,2027-01-07,2027-01-08",
        "energi,eu,0.9,2027-01-07,2027-01-08",
    ])  # fmt: skip
    with pytest.raises(BadRows) as refused:
        imported(warehouse, PRICES, text)
    assert sorted(error.field for error in refused.value.errors) == [
        "line 3, value", "line 4, value", "line 5, valid_from", "line 6, valid_from", "line 7, valid_to",
        "line 8, value", "line 9, kind",
    ]  # fmt: skip
    assert list_prices(warehouse) == []


def test_points_among_decimal_commas_are_refused(warehouse: Warehouse) -> None:
    text = "kind;cluster;value;valid_from\ncarbon;eu;250,5;2027-01-01\ncarbon;eu;1.250;2027-01-02\n"
    with pytest.raises(BadRows, match=r"1\.250.*decimal comma"):
        imported(warehouse, PRICES, text)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        ("kind,cluster,value\nenergy,eu,0.1".encode("utf-16"), "UTF-8"),
        (b"kind,cluster,valeu\nenergy,eu,0.1", "did you mean value"),
        (b"kind,cluster\nenergy,eu", "add the column value"),
        (b"kind,cluster,value\nenergy,eu,0,1", "quote a cell"),
        (b"kind,cluster,value,value\nenergy,eu,1,1", "twice"),
        (b'{"rows": 5}', "list of objects"),
        (b"[1]", "give an object"),
    ],
)
def test_a_file_that_could_be_misread_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        read_file(PRICES, content, "f.csv")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_any_line_end_separator_and_a_byte_order_mark_give_the_same_rows(end: str, separator: str) -> None:
    lines = [separator.join(row) for row in (("tenant", "team"), ("acme", "'=x"), ("", ""))]
    (row,) = read_file(TENANTS, ("\ufeff" + end.join(lines)).encode(), "f.csv")
    assert row == TextRow("line 2", {"tenant": "acme", "team": "=x"})


def test_json_has_the_fields_of_csv_and_exact_numbers(warehouse: Warehouse) -> None:
    text = '[{"kind": "energy", "cluster": "eu", "value": 0.1000000000000000001, "valid_to": null}]'
    with pytest.raises(BadRows, match="at most 9 decimals"):
        imported(warehouse, PRICES, text)
    edit = imported(warehouse, PRICES, text.replace("0000000001", ""))
    assert [change.after.value for change in edit.changes.changes if change.after] == [Decimal("0.1")]


def test_more_rows_than_the_bound_are_refused_by_number() -> None:
    with pytest.raises(BadInput, match="100,000 rows at once"):
        read_file(TENANTS, b"tenant\n" + b"a\n" * (MAX_ROWS + 1), "f.csv")


def test_two_lines_of_one_key_are_refused(warehouse: Warehouse) -> None:
    with pytest.raises(BadRows, match=r"line 3: 'acme 2026.*line 2 has the same"):
        imported(warehouse, TENANTS, "tenant,team\nacme,a\nacme,b\n")


def test_an_unknown_name_is_refused_with_the_nearest(books: Warehouse) -> None:
    with pytest.raises(BadRows, match=r"line 2, cluster: 'eu1': did you mean eu-1"):
        imported(books, PRICES, "kind,cluster,value\nenergy,eu1,0.1\n", new_names=False)
    with pytest.raises(BadRows, match=r"tenant: 'acmee': did you mean acme"):
        imported(books, TENANTS, "tenant,team\nacmee,x\n", new_names=False)


def test_a_move_has_the_rest_from_the_row_before_and_leaves_history(warehouse: Warehouse) -> None:
    put(warehouse, TENANTS, tenant="acme", team="search", cost_centre="A", valid_from="always")
    put(warehouse, TENANTS, tenant="acme", cost_centre="B", valid_from="2026-12-01")
    rows = list_tenants(operator_reader(warehouse))
    assert [(row.team, row.cost_centre, rfc3339(row.valid_from_ms)[:10]) for row in rows] == [
        ("search", "A", "1970-01-01"), ("search", "B", "2026-12-01"),
    ]  # fmt: skip


def test_an_undated_row_that_is_in_force_already_changes_nothing(warehouse: Warehouse) -> None:
    put(warehouse, TENANTS, tenant="acme", team="search", valid_from="always")
    assert imported(warehouse, TENANTS, "tenant,team\nacme,search\n").changes.unchanged == 1
    put(warehouse, FLOORS, hardware="H100", idle_w="60", valid_from="always")
    assert imported(warehouse, FLOORS, "hardware,idle_w\nH100,60\n").changes.unchanged == 1


def test_a_floor_has_the_next_version_and_another_figure_needs_one(warehouse: Warehouse) -> None:
    put(warehouse, FLOORS, hardware="H100", idle_w="60.5", valid_from="always")
    put(warehouse, FLOORS, hardware="H100", idle_w="62", valid_from="2026-12-01")
    assert [(row.idle_mw, row.floor_version) for row in FLOORS.stored(operator_reader(warehouse))] == [
        (60_500, 1), (62_000, 2),
    ]  # fmt: skip
    with pytest.raises(BadInput, match=r"--version: 1: a changed row needs a new version: 3 or more"):
        put(warehouse, FLOORS, hardware="H100", idle_w="64", valid_from="2027-01-01", version="1")


def test_weights_without_a_row_before_need_all_three(warehouse: Warehouse) -> None:
    with pytest.raises(BadInput, match=r"--cached: '': give one"):
        put(warehouse, WEIGHTS, model="m", hardware="*", prompt="1")


def test_a_price_in_the_past_says_which_final_hours_it_reprices_and_needs_consent(books: Warehouse) -> None:
    start = rfc3339(seed.REAL_START_MS)
    edit = imported(books, PRICES, f"kind,cluster,value,valid_from\nenergy,eu-1,3,{start}\n")
    (effect,) = edit.effects
    assert (effect.names, effect.first) == (("eu-1",), False)
    assert effect.hours > 0 and effect.energy_uj > 0
    assert edit.needs_consent == [str(effect)]


def test_a_first_price_and_one_of_the_future_need_no_consent(books: Warehouse) -> None:
    future = imported(books, PRICES, "kind,cluster,value,valid_from\nenergy,eu-1,3,2031-01-01\n")
    assert (future.effects, future.needs_consent) == ([], [])
    put_prices(books, [Price("carbon", "nowhere", Decimal(1))])
    first = imported(books, PRICES, "kind,cluster,value,valid_from\npue,nowhere,2,always\n")
    assert first.needs_consent == []


def test_a_move_in_the_past_says_whose_hours_it_moves(books: Warehouse) -> None:
    start = rfc3339(seed.REAL_START_MS)
    edit = imported(books, TENANTS, f"tenant,cost_centre,valid_from\nacme,Z,{start}\n")
    assert edit.needs_consent[0].startswith("moves ") and "of acme" in edit.needs_consent[0]


def test_a_whole_file_removes_the_other_rows_with_consent(warehouse: Warehouse) -> None:
    price(warehouse, "0.1", "2026-01-01")
    put(warehouse, PRICES, kind="pue", cluster="*", value="1.2", valid_from="always")
    edit = imported(warehouse, PRICES, "kind,cluster,value,valid_from\nenergy,eu,0.1,2026-01-01\n", replaces=True)
    assert edit.needs_consent == ["removes 1 of the stored rows"]
    store_edit(operator_reader(warehouse), edit)
    assert prices(warehouse) == [("0.1", "2026-01-01", "")]


@pytest.mark.parametrize("table", [FLOORS, WEIGHTS, TENANTS], ids=["floors", "weights", "tenants"])
def test_a_removed_row_is_gone_and_an_unknown_one_is_refused_with_the_nearest(
    table: ReferenceTable, warehouse: Warehouse
) -> None:
    key = {"floors": {"hardware": "H100"}, "weights": {"model": "m", "hardware": "H"}, "tenants": {"tenant": "acme"}}
    figures = {"floors": {"idle_w": "60"}, "weights": {"prompt": "1", "cached": "0", "completion": "3"}}
    put(warehouse, table, **key[table.name], **figures.get(table.name, {"team": "t"}), valid_from="2027-01-01")
    reader = operator_reader(warehouse)
    with pytest.raises(BadInput, match=r"there is none; the nearest is .* 2027-01-01T00:00:00.000Z"):
        removal_of(reader, table, key[table.name] | {"valid_from": "2027-01-02"}, reading())
    store_edit(reader, removal_of(reader, table, key[table.name], reading()))
    assert table.stored(reader) == []


def test_a_version_that_ledger_rows_name_is_not_removed(warehouse: Warehouse) -> None:
    put(warehouse, WEIGHTS, model="m", hardware="H", prompt="1", cached="0", completion="3", valid_from="always")
    named = {"window_start": epoch_ms("2026-01-01"), "model": "m", "hardware": "H", "weights_version": 1}
    warehouse.insert("ledger", row("ledger", cluster="eu", workload="w", tenant="acme", **named))
    with pytest.raises(BadInput, match="ledger rows name its version 1"):
        removal_of(operator_reader(warehouse), WEIGHTS, {"model": "m", "hardware": "H"}, reading())


@pytest.mark.parametrize("number", range(7))
def test_each_file_of_the_page_is_imported(number: int, warehouse: Warehouse) -> None:
    name, text = re.findall(r"```csv (\w+)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)[number]
    edit = imported(warehouse, TABLES[name], text)
    store_edit(operator_reader(warehouse), edit)
    assert len(edit.changes.of("added")) == text.count("\n") - 1
    assert imported(warehouse, TABLES[name], text).changes.changes == []


def test_the_page_has_a_file_of_each_table() -> None:
    assert set(re.findall(r"```csv (\w+)", PAGE.read_text("utf-8"))) == set(TABLES)


def test_times_without_an_offset_are_of_the_zone_and_those_that_are_there_twice_are_refused(
    warehouse: Warehouse,
) -> None:
    reader, berlin = operator_reader(warehouse), reading("Europe/Berlin")
    texts = {"kind": "energy", "cluster": "eu", "value": "1", "valid_from": "2026-10-25"}
    edit = edit_of(reader, PRICES, [TextRow("", texts)], berlin, new_names=True)
    assert [rfc3339(change.after.valid_from_ms) for change in edit.changes.changes if change.after] == [
        "2026-10-24T22:00:00.000Z"
    ]
    assert "Times without an offset are of Europe/Berlin." in edit.notes
    with pytest.raises(BadInput, match=r"--from: .*is there twice in Europe/Berlin"):
        edit_of(reader, PRICES, [TextRow("", texts | {"valid_from": "2026-10-25T02:30"})], berlin, new_names=True)


def test_rows_are_listed_by_their_fields_and_at_a_time(warehouse: Warehouse) -> None:
    price(warehouse, "0.1", "2026-01-01")
    price(warehouse, "0.2", "2026-07-01")
    reader = operator_reader(warehouse)
    at = matching_rows(reader, PRICES, {"cluster": "eu"}, "2026-03-01", reading())
    assert [row.value for row in at] == [Decimal("0.1")]
    assert matching_rows(reader, PRICES, {"cluster": "us"}, None, reading()) == []
