"""Series, forecasts and anomalies of a ledger: known steps, largest keys, judged series."""

from __future__ import annotations

from decimal import Decimal

import pytest

from contracts.errors import BadQuery
from contracts.units import MS_PER_DAY
from forecasting.ledger_anomalies import report_anomalies
from forecasting.ledger_forecast import forecast_largest
from forecasting.ledger_series import MAX_SERIES, Measure, SeriesGroup, fill_zeros

DAYS = 60
NOW_MS = DAYS * MS_PER_DAY


def group(measure: Measure = "cost", **points: list[tuple[int, float | Decimal | None]]) -> SeriesGroup:
    """A group whose ledger has rows on each of 60 days."""
    known_steps = frozenset(day * MS_PER_DAY for day in range(DAYS))
    return SeriesGroup(measure, "USD", points, known_steps, frozenset({"simulated"}))


def weekly(scale: float = 1.0, spike_day: int | None = None) -> list[tuple[int, float | Decimal | None]]:
    """Sixty days with a weekly rhythm."""
    values = [scale * (10 + day % 7) * (5 if day == spike_day else 1) for day in range(DAYS)]
    return [(day * MS_PER_DAY, value) for day, value in enumerate(values)]


def test_a_known_step_without_a_row_is_0_after_the_first_row() -> None:
    assert fill_zeros([(2, 5.0), (4, Decimal(7))], frozenset({0, 1, 2, 3, 4, 5})) == [(2, 5), (3, 0), (4, 7), (5, 0)]


def test_a_step_without_rows_of_any_key_and_an_unknown_value_are_left_out() -> None:
    assert fill_zeros([(0, 1.0), (1, None), (4, 2.0)], frozenset({0, 1, 2, 4})) == [(0, 1), (2, 0), (4, 2)]
    assert fill_zeros([], frozenset({1, 2})) == [(1, 0), (2, 0)]


def test_the_largest_keys_come_first_and_ties_are_in_order_of_name() -> None:
    points = {"b": [(0, 3.0)], "a": [(0, 3.0)], "c": [(0, 1.0), (1, 9.0)], "d": [(0, None)]}
    series = SeriesGroup("cost", "USD", points, frozenset(), frozenset())
    assert series.largest(3) == ["c", "a", "b"]
    assert series.unknown("d") and not series.unknown("a")


@pytest.mark.parametrize("top", [0, MAX_SERIES + 1])
def test_a_number_of_series_out_of_range_is_refused(top: int) -> None:
    with pytest.raises(BadQuery, match="top"):
        group(a=weekly()).largest(top)


def test_a_ratio_is_unknown_without_rows_and_a_sum_is_0() -> None:
    points: list[tuple[int, float | Decimal | None]] = [(0, 1.0), (2 * MS_PER_DAY, 1.0)]
    assert group("cost", a=points).regular("a", "day", 3 * MS_PER_DAY).tolist() == [1, 0, 1]
    assert group("joules_per_token", a=points).regular("a", "day", 3 * MS_PER_DAY).isna().tolist() == [0, 1, 0]


def test_forecasts_are_of_the_largest_series_with_month_totals_for_days_only() -> None:
    series = group(small=weekly(), simulated=weekly(3.0), tiny=weekly(0.1))
    forecasts = forecast_largest(series, frequency="day", horizon=7, top=2, now_ms=NOW_MS)
    assert [(f.key, f.simulated) for f in forecasts] == [("simulated", True), ("small", False)]
    for forecast in forecasts:
        assert forecast.steps.unit == "USD" and len(forecast.steps.points) == 7
        assert forecast.months is not None and forecast.months.next is not None and not forecast.months_withheld
    assert forecasts[0].steps.points[0].mean == pytest.approx(3 * forecasts[1].steps.points[0].mean)


def test_the_same_ledger_gives_the_same_month_totals() -> None:
    first, second = (
        forecast_largest(group(a=weekly(spike_day=40)), frequency="day", horizon=1, top=1, now_ms=NOW_MS)
        for _ in range(2)
    )
    assert first[0].months == second[0].months


@pytest.mark.parametrize(("horizon", "frequency"), [(0, "day"), (93, "day"), (337, "hour")])
def test_a_horizon_out_of_range_is_refused(horizon: int, frequency: str) -> None:
    with pytest.raises(BadQuery, match="horizon"):
        forecast_largest(group(a=weekly()), frequency=frequency, horizon=horizon, top=1, now_ms=NOW_MS)  # type: ignore[arg-type]


def test_episodes_of_all_groups_come_newest_first_and_short_series_are_named() -> None:
    cost = group("cost", simulated=weekly(spike_day=40), new=weekly()[-5:], free=[(0, None)])
    energy = group("energy", a=weekly(spike_day=50))
    report = report_anomalies([cost, energy], frequency="day", top=5, now_ms=NOW_MS)
    assert [(e.measure, e.key, e.simulated, e.anomaly.start_ms // MS_PER_DAY) for e in report.episodes] == [
        ("energy", "a", False, 50),
        ("cost", "simulated", True, 40),
    ]
    assert [(u.measure, u.key) for u in report.unjudged] == [("cost", "new")] and "too short" in report.unjudged[
        0
    ].reason
    assert report.judged == 2
