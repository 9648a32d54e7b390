"""Bills by days and months of a time zone: each window counts on the local day of its start."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.errors import BadQuery
from contracts.units import MS_PER_HOUR, UJ_PER_KWH, epoch_ms
from producers.runtime.batching import UsageRow
from tests.support.examples import examples
from tests.support.ledger_rows import rows
from tests.support.seeded_ledger import lay_usage
from warehouse.calendar_steps import MAX_STEPS
from warehouse.chargeback import chargeback_queries
from warehouse.client import Warehouse
from warehouse.latency.latency_queries import latencies
from warehouse.periods import Period, resolve_period
from warehouse.reader import operator_reader
from warehouse.sink.sink import Sink
from warehouse.usage import usage_queries

CHANGE_MS = epoch_ms("2026-10-25T01:00:00Z")
"""Central European Summer Time ends: the clocks go from 3:00 to 2:00."""
START_MS, STEP_MS = CHANGE_MS - 40 * MS_PER_HOUR, 10 * 60_000
FORMATS = {"day": "%Y-%m-%d", "week": "%G-W%V", "month": "%Y-%m"}
ZONES = ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns", "Asia/Kathmandu", "Pacific/Apia"]


def lay(warehouse: Warehouse, *times_ms: int) -> None:
    """One kWh, and a request of 1 s, in each of these windows."""
    warehouse.insert("ledger", rows("ledger", *(
        {"window_start": at, "active_uj": UJ_PER_KWH, "requests": 1, "request_duration": [{160: 1}]} for at in times_ms
    )))  # fmt: skip
    Sink(warehouse).refresh_hours(times_ms, ["eu"], ["chat"])


@settings(max_examples=examples(15), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sets(st.integers(0, 480), min_size=1, max_size=15), st.sampled_from(ZONES), st.sampled_from(list(FORMATS)),
    st.integers(0, 100), st.integers(300, 481),
)  # fmt: skip
def test_a_window_counts_on_the_local_day_of_its_start(
    warehouse: Warehouse, steps: set[int], zone: str, step: str, first: int, last: int
) -> None:
    for table in ("ledger", "ledger_hour", "ledger_day"):
        warehouse.command(f"TRUNCATE TABLE {table}")
    lay(warehouse, *(START_MS + n * STEP_MS for n in steps))
    period = Period(START_MS + first * STEP_MS, START_MS + last * STEP_MS, zone)
    bill = chargeback_queries.chargeback_all(operator_reader(warehouse), period, [step])
    local = (
        datetime.fromtimestamp((START_MS + n * STEP_MS) // 1000, UTC).astimezone(ZoneInfo(zone))
        for n in steps if first <= n < last
    )  # fmt: skip
    due = Counter(at.strftime(FORMATS[step]) for at in local)
    assert {getattr(row, step): row.energy_uj // UJ_PER_KWH for row in bill} == due
    page = latencies(operator_reader(warehouse), period, [step])
    assert {row.group[step]: row.request_duration.requests for row in page.rows} == due


def test_the_day_on_which_summer_time_ends_has_25_hours(warehouse: Warehouse) -> None:
    lay(warehouse, *range(epoch_ms("2026-10-24T20:00:00Z"), epoch_ms("2026-10-26T02:00:00Z"), MS_PER_HOUR))
    day = resolve_period(warehouse, "2026-10-25", time_zone="Europe/Berlin")
    assert (day.end - day.start) // MS_PER_HOUR == 25
    (row,) = chargeback_queries.chargeback_all(operator_reader(warehouse), day, ["day"])
    assert (row.day, row.energy_uj) == ("2026-10-25", 25 * UJ_PER_KWH)


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [
        ("2026-10", "2026-09-30T18:30:00Z", "2026-10-31T18:30:00Z"),
        ("2026-10-25", "2026-10-24T18:30:00Z", "2026-10-25T18:30:00Z"),
        ("latest-day", "2026-10-25T18:30:00Z", "2026-10-26T18:30:00Z"),
        ("latest-month", "2026-09-30T18:30:00Z", "2026-10-31T18:30:00Z"),
    ],
)
def test_a_period_is_named_in_the_zone(warehouse: Warehouse, name: str, start: str, end: str) -> None:
    lay(warehouse, epoch_ms("2026-10-25T20:00:00Z"))
    period = resolve_period(warehouse, name, time_zone="Asia/Kolkata")
    assert period == Period(epoch_ms(start), epoch_ms(end), "Asia/Kolkata")


@pytest.mark.parametrize(
    ("question", "field"),
    [
        ({"time_zone": "Mars/Olympus"}, "tz"),
        ({"start": "2026-10-25T02:30:00", "time_zone": "Europe/Berlin"}, "from"),
        ({"start": "2026-03-01", "end": "2026-03-29T02:30:00", "time_zone": "Europe/Berlin"}, "to"),
    ],
)
def test_a_zone_or_time_that_does_not_exist_is_refused_by_name(
    warehouse: Warehouse, question: dict[str, str], field: str
) -> None:
    with pytest.raises(BadQuery) as refused:
        resolve_period(warehouse, **question)  # type: ignore[arg-type]
    assert refused.value.field == field


def test_usage_is_of_the_local_day_of_its_last_millisecond(warehouse: Warehouse) -> None:
    times = [epoch_ms("2026-10-25T18:29:59Z"), epoch_ms("2026-10-25T18:30:00Z")]
    lay_usage(warehouse, [
        ("eu", "chat", UsageRow(meter="tool_calls", unit="call", quantity="1", t0_ms=time, t1_ms=time, tenant="acme"))
        for time in times
    ])  # fmt: skip
    period = resolve_period(warehouse, "2026-10", time_zone="Asia/Kolkata")
    groups = usage_queries.usage(operator_reader(warehouse), period, bucket="day").rows
    assert [row.day for row in groups] == ["2026-10-25", "2026-10-26"]


def test_too_many_days_are_refused(warehouse: Warehouse) -> None:
    with pytest.raises(BadQuery, match=f"more than {MAX_STEPS} days"):
        chargeback_queries.chargeback(operator_reader(warehouse), Period(0, epoch_ms("2100-01-01")), ["day"])
