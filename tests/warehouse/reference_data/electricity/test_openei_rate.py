"""A rate of OpenEI becomes prices of hours in the utility's zone; what hours cannot tell is refused or named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from contracts.errors import BadInput
from contracts.settings import Settings
from warehouse.reference_data.electricity.price_series import PriceSeries
from warehouse.reference_data.electricity.shapes import SeriesChoice, read_series

NIGHT_AND_DAY = [[0] * 8 + [1] * 12 + [0] * 4] * 12
RATE: dict[str, Any] = {
    "label": "5b311c595457a3496d8367be",
    "utility": "Pacific Power",
    "name": "Schedule 48",
    "energyratestructure": [[{"rate": 0.0512, "adj": 0.001, "unit": "kWh"}], [{"rate": 0.11, "unit": "kWh"}]],
    "energyweekdayschedule": NIGHT_AND_DAY,
    "energyweekendschedule": [[0] * 24] * 12,
}
CHOICE = {"cluster": "c", "start": "2026-03-06", "end": "2026-03-09", "time_zone": "America/Los_Angeles"}


def read(rate: object, **choice: str | None) -> PriceSeries:
    chosen = SeriesChoice(**{**CHOICE, **choice})
    series = read_series(json.dumps(rate).encode(), "f", chosen, Settings(currency="USD"))
    assert series is not None
    return series


def refusal(rate: object, **choice: str | None) -> str:
    with pytest.raises(BadInput) as error:
        read(rate, **choice)
    return str(error.value)


def test_each_local_hour_has_the_price_of_its_month_and_weekday_with_its_adjustment() -> None:
    texts = [row.texts for row in read(RATE).rows("c")]
    assert texts[0]["valid_from"] == "2026-03-06T08:00:00.000Z"
    assert [text["value"] for text in texts[:24]] == ["0.0522"] * 8 + ["0.11"] * 12 + ["0.0522"] * 4
    assert {text["value"] for text in texts[24:]} == {"0.0522"}
    assert texts[0]["currency"] == "USD"


def test_the_day_on_which_clocks_go_forward_has_23_hours() -> None:
    assert len(read(RATE, start="2026-03-08", end="2026-03-09").spans) == 23


def test_an_answer_of_the_api_is_read_as_its_one_rate() -> None:
    assert len(read({"items": [RATE]}).spans) == 71
    assert "give one rate" in refusal({"items": [RATE, RATE]})


def test_tiers_are_refused_but_only_where_a_schedule_uses_them() -> None:
    tiers = [*RATE["energyratestructure"], [{"rate": 0.1, "max": 500, "unit": "kWh"}, {"rate": 0.2}]]
    assert len(read(RATE | {"energyratestructure": tiers}).spans) == 71
    used = RATE | {"energyratestructure": tiers, "energyweekendschedule": [[2] * 24] * 12}
    assert "a price of an hour has no tiers" in refusal(used)


def test_demand_and_fixed_charges_are_named() -> None:
    rate = RATE | {
        "flatdemandstructure": [[{"rate": 12.3}]], "fixedchargefirstmeter": 25, "mincharge": 0,
        "demandratestructure": [[{"rate": 0, "adj": 0}]],
    }  # fmt: skip
    assert read(rate).left_out == ["flatdemandstructure", "fixedchargefirstmeter"]


def test_a_schedule_must_have_12_months_of_24_hours_with_known_periods() -> None:
    assert "give 12 lists of 24" in refusal(RATE | {"energyweekdayschedule": [[0] * 23] * 12})
    assert "month 1, hour 0" in refusal(RATE | {"energyweekendschedule": [[7] * 24] * 12})
    assert "give 12 lists of 24" in refusal({"energyratestructure": [[{"rate": 1}]]})


def test_a_period_without_a_rate_is_unknown_and_not_0() -> None:
    assert "a missing price is not 0" in refusal(RATE | {"energyratestructure": [[{"adj": 0.1}], [{"rate": 1}]]})


def test_the_zone_the_days_and_the_cluster_must_be_given() -> None:
    assert "--tz" in refusal(RATE, time_zone=None)
    assert "--from and --to" in refusal(RATE, end=None)
    assert "--cluster" in refusal(RATE, cluster=None)


def test_days_outside_of_the_rates_validity_are_refused() -> None:
    assert "the rate's startdate is 2026-06-01" in refusal(RATE | {"startdate": 1780272000})
    assert "the rate's enddate is 2026-01-01" in refusal(RATE | {"enddate": 1767225600})


def test_a_currency_is_never_guessed() -> None:
    assert "give one" in refusal(RATE | {"country": "CAN"})
    assert read(RATE | {"country": "CAN"}, currency="USD").currency == "USD"
    assert "nothing is converted" in refusal(RATE, currency="EUR")
