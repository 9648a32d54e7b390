"""Days and months of time zones, across changes to and from summer time."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import BadInput
from contracts.time_zones import days, local_epoch_ms, months, zone_of
from contracts.units import MS_PER_HOUR, epoch_ms

ZONES = ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe", "Asia/Beirut"]


@pytest.mark.parametrize(
    ("zone", "start", "end", "hours"),
    [
        ("Europe/Berlin", "2026-10-24", "2026-10-27", [24, 25, 24]),
        ("Europe/Berlin", "2026-03-28", "2026-03-31", [24, 23, 24]),
        ("Australia/Lord_Howe", "2026-04-04", "2026-04-07", [24, 24.5, 24]),
        ("Asia/Beirut", "2026-03-28", "2026-03-31", [24, 23, 24]),  # The clocks go forward at midnight.
        ("Asia/Kolkata", "2026-10-25", "2026-10-27", [24, 24]),
    ],
)
def test_days_last_from_midnight_to_midnight_of_the_zone(zone: str, start: str, end: str, hours: list[float]) -> None:
    of = ZoneInfo(zone)
    start_ms, end_ms = local_epoch_ms(start, of), local_epoch_ms(end, of)
    steps = [*days(of, start_ms, end_ms)]
    ends_ms = [*(step.start_ms for step in steps[1:]), end_ms]
    assert [(end - step.start_ms) / MS_PER_HOUR for step, end in zip(steps, ends_ms, strict=True)] == hours
    assert (steps[0].name, steps[0].start_ms) == (start, start_ms)


def test_months_begin_at_midnight_of_the_zone() -> None:
    steps = [*months(ZoneInfo("Europe/Berlin"), epoch_ms("2026-10-15"), epoch_ms("2026-12-01"))]
    assert [(step.name, step.start_ms) for step in steps] == [
        ("2026-10", epoch_ms("2026-09-30T22:00:00Z")),
        ("2026-11", epoch_ms("2026-10-31T23:00:00Z")),
        ("2026-12", epoch_ms("2026-11-30T23:00:00Z")),
    ]


def test_a_day_that_a_zone_skipped_is_left_out() -> None:
    """Samoa went from 29 to 31 December 2011."""
    steps = [*days(ZoneInfo("Pacific/Apia"), epoch_ms("2011-12-29T12:00:00Z"), epoch_ms("2011-12-31T12:00:00Z"))]
    assert [step.name for step in steps] == ["2011-12-29", "2011-12-31", "2012-01-01"]


@given(st.sampled_from(ZONES), st.integers(0, 4_000_000_000), st.integers(1, 90 * 24))
def test_steps_touch_the_period_without_a_gap(zone: str, start_s: int, hours: int) -> None:
    start_ms, end_ms = start_s * 1000, start_s * 1000 + hours * MS_PER_HOUR
    for steps in ([*days(ZoneInfo(zone), start_ms, end_ms)], [*months(ZoneInfo(zone), start_ms, end_ms)]):
        starts = [step.start_ms for step in steps]
        assert starts == sorted(set(starts))
        assert starts[0] <= start_ms
        assert all(start_ms < at_ms < end_ms for at_ms in starts[1:])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-10-01", "2026-09-30T22:00:00Z"),
        ("2026-10-01T12:00:00", "2026-10-01T10:00:00Z"),
        ("2026-10-01T12:00:00Z", "2026-10-01T12:00:00Z"),
        ("2026-10-01T12:00:00-05:00", "2026-10-01T17:00:00Z"),
    ],
)
def test_a_time_without_an_offset_is_local(text: str, expected: str) -> None:
    assert local_epoch_ms(text, ZoneInfo("Europe/Berlin")) == epoch_ms(expected)


@pytest.mark.parametrize(
    ("text", "error"),
    [("2026-10-25T02:30:00", "twice.*offset"), ("2026-03-29T02:30:00", "does not exist"), ("noon", "noon")],
)
def test_a_time_that_a_zone_has_twice_or_never_is_refused(text: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        local_epoch_ms(text, ZoneInfo("Europe/Berlin"))


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("Europe/Lisbn", "Europe/Lisbon"), ("Mars/Olympus", "Europe/Berlin"), ("../etc/passwd", "Europe/Berlin"),
        ("", "Europe/Berlin"), ("CEST", "Europe/Berlin"),
    ],
)  # fmt: skip
def test_an_unknown_zone_is_refused_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(BadInput, match=f"such as {near}"):
        zone_of(name)
