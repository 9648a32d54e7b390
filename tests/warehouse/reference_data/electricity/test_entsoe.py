"""ENTSO-E's day-ahead prices, as XML and as the website's table: each hour has its price, or the file is refused."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import pytest

from contracts.errors import BadInput
from contracts.settings import Settings
from warehouse.reference_data.electricity.price_series import PriceSeries
from warehouse.reference_data.electricity.shapes import SeriesChoice, read_series

ZONE = "10Y1001A1001A82H"
DAY = ("2026-10-01T22:00Z", "2026-10-02T22:00Z")


def series_of(
    points: Sequence[tuple[int, str]], times: tuple[str, str] = DAY, *, resolution: str = "PT60M", curve: str = "A03",
    zone: str = ZONE, unit: str = "MWH", currency: str = "EUR", sequence: str = "1", contract: str = "A01",
) -> str:  # fmt: skip
    inside = "".join(
        f"<Point><position>{at}</position><price.amount>{price}</price.amount></Point>" for at, price in points
    )
    return (
        f"<TimeSeries><mRID>1</mRID><businessType>A62</businessType>"
        f'<in_Domain.mRID codingScheme="A01">{zone}</in_Domain.mRID><out_Domain.mRID>{zone}</out_Domain.mRID>'
        f"<contract_MarketAgreement.type>{contract}</contract_MarketAgreement.type>"
        f"<currency_Unit.name>{currency}</currency_Unit.name><price_Measure_Unit.name>{unit}</price_Measure_Unit.name>"
        "<classificationSequence_AttributeInstanceComponent.position>"
        f"{sequence}</classificationSequence_AttributeInstanceComponent.position><curveType>{curve}</curveType>"
        f"<Period><timeInterval><start>{times[0]}</start><end>{times[1]}</end></timeInterval>"
        f"<resolution>{resolution}</resolution>{inside}</Period></TimeSeries>"
    )


def document(*series: str) -> bytes:
    return (
        '<?xml version="1.0" encoding="UTF-8"?><Publication_MarketDocument '
        'xmlns="urn:iec62325.351:tc57wg16:451-3:publicationdocument:7:3"><mRID>x</mRID><type>A44</type>'
        f"{''.join(series)}</Publication_MarketDocument>"
    ).encode()


def read(content: bytes, **choice: str) -> PriceSeries:
    series = read_series(content, "f", SeriesChoice(cluster="c", **choice), Settings(currency="EUR"))
    assert series is not None
    return series


def refusal(content: bytes, **choice: str) -> str:
    with pytest.raises(BadInput) as error:
        read(content, **choice)
    return str(error.value)


EVERY_HOUR = [(at, f"{at}.5") for at in range(1, 25)]


def test_a_price_per_mwh_is_stored_per_kwh_exactly() -> None:
    rows = read(document(series_of([(1, "97.51"), (2, "-0.01")]))).rows("c")
    assert [row.texts["value"] for row in rows][:3] == ["0.09751", "-0.00001", "-0.00001"]
    assert rows[0].texts["valid_from"] == "2026-10-01T22:00:00.000Z"
    assert rows[0].texts["currency"] == "EUR"
    assert "97.51 EUR/MWh is stored as 0.09751 EUR/kWh" in read(document(series_of([(1, "97.51")]))).conversion()


def test_under_a03_a_position_that_is_left_out_repeats_the_price_before_it_until_the_end() -> None:
    spans = read(document(series_of([(1, "1"), (4, "2")]))).spans
    assert [span.price for span in spans] == [Decimal(1)] * 3 + [Decimal(2)] * 21


def test_under_a01_a_position_that_is_left_out_is_a_gap_with_its_interval() -> None:
    refused = refusal(document(series_of([p for p in EVERY_HOUR if p[0] != 4], curve="A01")))
    assert "2026-10-02T01:00:00.000Z/2026-10-02T02:00:00.000Z" in refused


def test_a_first_position_that_is_left_out_has_nothing_to_repeat() -> None:
    assert "position 1" in refusal(document(series_of([(2, "1")])))


@pytest.mark.parametrize(
    ("times", "quarters"),
    [(("2026-03-28T23:00Z", "2026-03-29T22:00Z"), 92), (("2026-10-24T22:00Z", "2026-10-25T23:00Z"), 100)],
)
def test_days_on_which_clocks_change_have_92_and_100_quarters(times: tuple[str, str], quarters: int) -> None:
    points = [(at, "1") for at in range(1, quarters + 1)]
    assert len(read(document(series_of(points, times, resolution="PT15M", curve="A01"))).spans) == quarters
    refused = refusal(document(series_of([*points, (quarters + 1, "1")], times, resolution="PT15M")))
    assert f"positions 1 to {quarters}" in refused


def test_days_in_several_series_are_put_together_in_order_of_time() -> None:
    later = series_of(EVERY_HOUR, ("2026-10-02T22:00Z", "2026-10-03T22:00Z"))
    spans = read(document(later, series_of(EVERY_HOUR))).spans
    assert len(spans) == 48
    assert spans[0].start_ms < spans[-1].start_ms


def test_a_gap_between_days_is_refused_with_its_interval() -> None:
    later = series_of(EVERY_HOUR, ("2026-10-03T22:00Z", "2026-10-04T22:00Z"))
    assert "2026-10-02T22:00:00.000Z/2026-10-03T22:00:00.000Z" in refusal(document(series_of(EVERY_HOUR), later))


def test_a_day_that_is_there_twice_is_refused() -> None:
    assert "has the same interval" in refusal(document(series_of(EVERY_HOUR), series_of(EVERY_HOUR)))


def test_a_position_that_is_there_twice_is_refused() -> None:
    assert "this position is there twice" in refusal(document(series_of([(1, "1"), (1, "2")])))


def test_two_auctions_or_resolutions_of_a_zone_need_a_choice() -> None:
    both = document(
        series_of(EVERY_HOUR), series_of([(1, "9")], sequence="2"), series_of([(1, "7")], resolution="PT15M")
    )
    assert "PT15M/1, PT60M/1, PT60M/2" in refusal(both)
    assert read(both, series="PT60M/2").spans[0].price == 9
    assert "the document has" in refusal(both, series="PT30M/1")


def test_another_zone_than_was_asked_for_is_refused_and_several_need_a_choice() -> None:
    assert ZONE in refusal(document(series_of(EVERY_HOUR)), zone="10YFR-RTE------C")
    both = document(series_of(EVERY_HOUR), series_of([(1, "3")], zone="10YFR-RTE------C"))
    assert "--zone" in refusal(both)
    assert read(both, zone="10YFR-RTE------C").spans[0].price == 3


def test_a_currency_is_never_converted_and_another_one_than_the_settings_must_be_named() -> None:
    zloty = document(series_of(EVERY_HOUR, currency="PLN"))
    assert "give --currency PLN" in refusal(zloty)
    assert "nothing is converted" in refusal(zloty, currency="EUR")
    assert read(zloty, currency="PLN").currency == "PLN"


def test_no_data_is_refused_with_the_reason_that_entsoe_gives() -> None:
    refused = refusal(
        b"<Acknowledgement_MarketDocument><Reason><code>999</code><text>No matching data found</text></Reason>"
        b"</Acknowledgement_MarketDocument>"
    )
    assert "No matching data found" in refused


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (document(series_of(EVERY_HOUR, unit="MAW")), "give MWH or KWH"),
        (document(series_of(EVERY_HOUR, contract="A07")), "only A01, day-ahead"),
        (document(series_of(EVERY_HOUR, curve="A02")), "only A01 and A03"),
        (document(series_of(EVERY_HOUR, resolution="P1D")), "resolution"),
        (document(series_of([(1, "")])), "a missing price is not 0"),
        (document(series_of([(1, "NaN")])), "a missing price is not 0"),
        (document(), "no TimeSeries"),
        (document(series_of(EVERY_HOUR))[:-30], "this is not XML"),
        (b"PK\x03\x04", "unpack it"),
        (b"<html><body/></html>", "type A44"),
    ],
)
def test_documents_with_unknown_units_or_missing_prices_are_refused_by_name(content: bytes, text: str) -> None:
    assert text in refusal(content)


def test_entities_external_files_and_deep_nesting_are_refused() -> None:
    bomb = b'<!DOCTYPE a [<!ENTITY x "xxxxxxxx"><!ENTITY y "&x;&x;">]><a>&y;</a>'
    assert "document type" in refusal(bomb)
    assert "document type" in refusal(b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>')
    assert "inside each other" in refusal(b"<a>" * 40)


def test_times_of_an_option_are_refused_where_the_file_has_its_own() -> None:
    assert "has its own times" in refusal(document(series_of(EVERY_HOUR)), start="2026-10-01")


OLD = '"MTU (CET/CEST)","Day-ahead Price [EUR/MWh]","Currency","BZN|DE-LU"\n'
NEW = '"MTU (UTC)","Area","Sequence","Day-ahead Price (EUR/MWh)","Intraday Period (UTC)","Intraday Price (EUR/MWh)"\n'


def test_the_websites_table_has_local_hours() -> None:
    series = read((OLD + '"01.10.2026 00:00 - 01.10.2026 01:00","97.51","EUR",""\n').encode())
    assert series.rows("c")[0].texts["valid_from"] == "2026-09-30T22:00:00.000Z"
    assert series.rows("c")[0].texts["value"] == "0.09751"


def test_the_newer_table_has_an_area_and_a_sequence_of_which_one_is_chosen() -> None:
    rows = "".join(
        f'"01/10/2026 00:{m:02}:00 - 01/10/2026 00:{m + 15}:00","BZN|DE-LU","Sequence {s}","{s}{m}","",""\n'
        for m in (0, 15)
        for s in (1, 2)
    )
    assert "Sequence 1, Sequence 2" in refusal((NEW + rows).encode())
    assert [span.price for span in read((NEW + rows).encode(), series="2").spans] == [20, 215]
    assert "BZN|DE-LU" in refusal((NEW + rows).encode(), series="2", zone="BZN|FR")


@pytest.mark.parametrize(
    "hours",
    [
        ["01:00 - {d} 02:00", "02:00 - {d} 03:00", "02:00 - {d} 03:00", "03:00 - {d} 04:00"],
        ["01:00 - {d} 02:00", "02:00 - {d} 02:00", "02:00 - {d} 03:00", "03:00 - {d} 04:00"],
        [
            "01:00 (CEST) - {d} 02:00 (CEST)", "02:00 (CEST) - {d} 02:00 (CET)", "02:00 (CET) - {d} 03:00 (CET)",
            "03:00 (CET) - {d} 04:00 (CET)",
        ],
    ],
)  # fmt: skip
def test_the_hour_that_is_there_twice_is_read_in_its_order(hours: list[str]) -> None:
    day = "25.10.2026"
    rows = "".join(f'"{day} {hour.format(d=day)}","{at}","EUR",""\n' for at, hour in enumerate(hours))
    spans = read((OLD + rows).encode()).spans
    assert [span.price for span in spans] == [0, 1, 2, 3]
    assert {span.end_ms - span.start_ms for span in spans} == {3_600_000}


def test_the_hour_that_clocks_skip_has_no_price() -> None:
    day = "29.03.2026"
    hours = (("01:00", "02:00", "1"), ("02:00", "03:00", "n/e"), ("03:00", "04:00", "2"))
    rows = "".join(f'"{day} {a} - {day} {b}","{price}","EUR",""\n' for a, b, price in hours)
    assert [span.price for span in read((OLD + rows).encode()).spans] == [1, 2]


def test_an_hour_without_a_price_is_refused_and_not_0() -> None:
    assert "has no price" in refusal((OLD + '"01.10.2026 00:00 - 01.10.2026 01:00","-","EUR",""\n').encode())
