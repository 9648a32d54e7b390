"""Units are exact. Topics and names have fixed forms. Errors say how to fix the input."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import errors, topics
from contracts.events import MAX_TIME_MS
from contracts.units import (
    MS_PER_DAY,
    MS_PER_HOUR,
    UJ_PER_J,
    UJ_PER_KWH,
    counted,
    duration,
    epoch_ms,
    joules,
    kwh,
    rfc3339,
)


def test_a_kilowatt_hour_is_3_6_million_joules():
    assert UJ_PER_KWH == 3_600_000 * UJ_PER_J == 1_000 * MS_PER_HOUR * 1_000
    assert 24 * MS_PER_HOUR == MS_PER_DAY


def test_counts_and_durations_have_the_right_number():
    assert [counted(n, "node") for n in (0, 1, 2000)] == ["0 nodes", "1 node", "2,000 nodes"]
    texts = [duration(ms) for ms in (0, 1500, 60_000, 90 * 60_000, MS_PER_HOUR, 3 * MS_PER_HOUR + 30_000, MS_PER_DAY)]
    assert texts == ["0 seconds", "1.5 seconds", "1 minute", "90 minutes", "1 hour", "3 hours", "1 day"]


@pytest.mark.parametrize(
    ("energy_uj", "expected"),
    [(0, "0"), (3_600_000_000_000, "1"), (9, "2.5E-12"), (-1_800_000_000_000, "-0.5"), (36, "1E-11")],
)
def test_kilowatt_hours_are_decimals(energy_uj, expected):
    assert kwh(energy_uj) == Decimal(expected)


@given(st.integers(0, 2**50))
def test_kilowatt_hours_survive_a_round_trip_to_the_microjoule(energy_uj):
    assert round(kwh(energy_uj) * UJ_PER_KWH) == energy_uj


def test_joules_are_rounded_for_display():
    assert joules(1_500_000) == 1.5


@pytest.mark.parametrize(
    ("text", "t_ms"),
    [
        ("1970-01-01T00:00:00.000Z", 0),
        ("1970-01-01T00:00:00.001Z", 1),
        ("2023-11-14T22:13:20.123Z", 1_700_000_000_123),
        ("9999-12-31T23:59:59.999Z", MAX_TIME_MS),
    ],
)
def test_rfc_3339_times_are_read(text, t_ms):
    assert (rfc3339(t_ms), epoch_ms(text)) == (text, t_ms)


@pytest.mark.parametrize(
    ("text", "t_ms"),
    [
        ("2023-11-14", 1_699_920_000_000),  # its midnight
        ("2023-11-14T22:13:20", 1_700_000_000_000),  # without a zone: UTC
        ("2023-11-14T23:13:20+01:00", 1_700_000_000_000),
        ("2023-11-14T22:13:20.9999Z", 1_700_000_000_999),  # never later than written
        ("1969-12-31T23:59:59.999Z", -1),
    ],
)
def test_other_forms_of_a_time_are_read(text, t_ms):
    assert epoch_ms(text) == t_ms


@pytest.mark.parametrize("text", ["", "yesterday", "2023-13-01", "1700000000000000"])
def test_text_that_is_no_time_is_refused(text):
    with pytest.raises(ValueError):
        epoch_ms(text)


@given(st.integers(0, MAX_TIME_MS))
def test_times_survive_a_round_trip_to_the_millisecond(t_ms):
    assert epoch_ms(rfc3339(t_ms)) == t_ms


def test_power_and_tokens_of_a_workload_share_a_key():
    assert topics.key("eu-1", "llm/chat") == "eu-1/llm/chat"
    assert topics.key("eu-1", topics.node_workload("n1")) == "eu-1/~n1"


def test_a_name_marks_unallocated_energy():
    assert topics.is_unallocated(topics.node_workload("n1"))
    assert not topics.is_unallocated("n1")


@pytest.mark.parametrize(
    ("field", "name"), [("workload", "llm/chat"), ("cluster", "eu-1"), ("tenant", "Käse"), ("node", "n" * 253)]
)
def test_a_good_name_is_accepted(field, name):
    assert topics.check_name(field, name) == name


@pytest.mark.parametrize(
    ("field", "name"), [("cluster", "eu/1"), ("workload", ""), ("tenant", "a\tb"), ("node", "n" * 254)]
)
def test_a_bad_name_is_refused(field, name):
    with pytest.raises(errors.BadInput) as caught:
        topics.check_name(field, name)
    assert caught.value.field == field


def test_an_error_names_the_field_the_value_and_the_fix():
    assert str(errors.BadEvent("t_ms", -1, "give UTC epoch milliseconds")) == "t_ms: -1: give UTC epoch milliseconds"
    assert str(errors.Unavailable("the broker does not answer", "is it up?")) == "the broker does not answer. is it up?"


def test_an_error_shows_only_the_beginning_of_a_long_value():
    assert len(str(errors.BadInput("f", "x" * 10_000, "mend"))) < 100


@pytest.mark.parametrize("error", [errors.BadEvent, errors.BadSetting, errors.BadQuery])
def test_bad_input_is_one_family_of_errors(error):
    assert issubclass(error, errors.BadInput)


@pytest.mark.parametrize("error", [errors.BadInput, errors.Unavailable, errors.LedgerError])
def test_every_error_of_the_project_has_one_root(error):
    assert issubclass(error, errors.WattlogError)
    assert not issubclass(error, ValueError)  # Pydantic and json would swallow a ValueError.
