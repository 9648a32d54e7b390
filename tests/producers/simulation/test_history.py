"""The simulated history: complete, exact, with its planted anomalies, ending where the live stream begins."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from contracts import rows, topics
from contracts.errors import BadInput
from contracts.units import MS_PER_DAY, MS_PER_HOUR
from producers.simulation.events import FleetTotals, SimulatedFleet
from producers.simulation.fleet import HOOLI, default_spec
from producers.simulation.history import SimulatedHistory, history, months_later


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


START = ms("2026-01-01")
PROVENANCE = {"log_id": "history", "log_partition": 0, "version": 1, "deleted": 0, "late_id": 0}


@pytest.fixture(scope="module")
def past() -> SimulatedHistory:
    return history(7, START)


def texts(table: rows.Table, name: str) -> np.ndarray:
    return np.asarray(table[name], object)


def test_the_history_covers_four_calendar_months_of_every_gpu(past: SimulatedHistory) -> None:
    assert past.end_ms == ms("2026-05-01")
    hours = (past.end_ms - past.start_ms) // MS_PER_HOUR
    table = past.gpu_energy
    assert rows.length(table) == hours * len(default_spec().gpus)
    keys = set(zip(table["window_start"].tolist(), table["gpu_uuid"], strict=True))  # type: ignore[union-attr]
    assert len(keys) == rows.length(table)
    assert set(table["covered_ms"].tolist()) == {MS_PER_HOUR}  # type: ignore[union-attr]


def test_the_columns_are_the_ledgers_without_provenance_in_order_of_time(past: SimulatedHistory) -> None:
    for name, table in (("gpu_energy", past.gpu_energy), ("token_usage", past.token_usage)):
        assert table.keys() <= rows.SCHEMAS[name].keys() - PROVENANCE.keys()
        full = rows.conform(name, {**table, **PROVENANCE})  # type: ignore[arg-type]
        assert (np.diff(full["window_start"]) >= 0).all()
        assert all(np.issubdtype(c.dtype, np.integer) for c in table.values() if isinstance(c, np.ndarray))


def test_a_seed_determines_the_history(past: SimulatedHistory) -> None:
    again, other = history(7, START), history(8, START)
    assert (again.gpu_energy["energy_uj"] == past.gpu_energy["energy_uj"]).all()  # type: ignore[union-attr]
    assert (again.token_usage["requests"] == past.token_usage["requests"]).all()  # type: ignore[union-attr]
    assert (other.gpu_energy["energy_uj"] != past.gpu_energy["energy_uj"]).any()  # type: ignore[union-attr]


def test_every_gpu_draws_between_idle_and_its_limit_and_spare_ones_idle(past: SimulatedHistory) -> None:
    table = past.gpu_energy
    watt = np.asarray(table["energy_uj"]) / 3.6e9
    hardware = {gpu.hardware.name: gpu.hardware for gpu in default_spec().gpus}
    for name, kind in hardware.items():
        drawn = watt[texts(table, "hardware") == name]
        assert drawn.min() > kind.idle_mw / 1000 * 0.9
        assert drawn.max() <= kind.max_w
    spare = np.asarray([topics.is_unallocated(w) for w in table["workload"]])
    assert watt[spare].max() < 90
    assert np.asarray(table["busy_ms"])[spare].max() == 0


def test_tokens_are_consistent_with_their_thousandths(past: SimulatedHistory) -> None:
    t = {name: np.asarray(column) for name, column in past.token_usage.items()}
    assert (t["cached_tokens"] <= t["prompt_tokens"]).all()
    assert (t["computed_mtok"] == (t["prompt_tokens"] - t["cached_tokens"]) * 1000).all()
    assert (t["completion_mtok"] == t["completion_tokens"] * 1000).all()
    assert (t["failures"] <= t["requests"]).all()
    assert (t["requests"] > 0).all()


def test_a_tenant_that_joins_midway_has_no_tokens_before(past: SimulatedHistory) -> None:
    table = past.token_usage
    mine = np.asarray(table["window_start"])[texts(table, "tenant") == HOOLI.name]
    joined = START + HOOLI.joined * (past.end_ms - START)
    assert joined <= mine.min() < joined + MS_PER_DAY


def test_demand_grows_and_weekends_are_quieter(past: SimulatedHistory) -> None:
    table = past.token_usage
    t, requests = np.asarray(table["window_start"]), np.asarray(table["requests"])
    mine = texts(table, "tenant") == "globex-chat"
    clean = mine & ~_hit(past, t, 1)
    day = (t - START) // MS_PER_DAY
    first, last = requests[clean & (day < 28)].sum(), requests[clean & (day >= 120 - 28)].sum()
    assert last > 1.1 * first
    weekend = (t // MS_PER_DAY + 3) % 7 >= 5
    per_day = [requests[clean & w].sum() / len(set(day[clean & w].tolist())) for w in (weekend, ~weekend)]
    assert per_day[0] < 0.6 * per_day[1]


def _hit(past: SimulatedHistory, t: np.ndarray, place: int) -> np.ndarray:
    return (t >= past.planted[place].start_ms) & (t < past.planted[place].end_ms)


def test_the_planted_regression_shows_only_in_its_joules_per_token(past: SimulatedHistory) -> None:
    planted = past.planted[0]

    def per_token(shift_ms: int, workload: str) -> float:
        sums = []
        for table, column in ((past.gpu_energy, "energy_uj"), (past.token_usage, "completion_tokens")):
            t = np.asarray(table["window_start"]) - shift_ms
            here = (texts(table, "workload") == workload) & (texts(table, "cluster") == planted.cluster)
            sums.append(np.asarray(table[column])[here & (t >= planted.start_ms) & (t < planted.end_ms)].sum())
        return float(sums[0] / sums[1])

    week = -7 * MS_PER_DAY
    assert per_token(0, planted.workload) > 1.3 * per_token(week, planted.workload)
    assert per_token(0, "chat-8b") == pytest.approx(per_token(week, "chat-8b"), rel=0.1)


def test_the_planted_spike_shows_in_the_tenants_requests_for_a_day(past: SimulatedHistory) -> None:
    planted = past.planted[1]
    table = past.token_usage
    t, requests = np.asarray(table["window_start"]), np.asarray(table["requests"])
    mine = texts(table, "tenant") == planted.tenant
    assert planted.end_ms - planted.start_ms == MS_PER_DAY
    assert planted.start_ms % MS_PER_DAY == 0
    spike = requests[mine & _hit(past, t, 1)].sum()
    usual = requests[mine & _hit(past, t + 7 * MS_PER_DAY, 1)].sum()
    assert spike > 3 * usual


def test_the_live_stream_continues_where_the_history_ends() -> None:
    """Power and requests of the last hour, by the hour and as events of ten minutes of it, agree."""
    end = ms("2026-05-06T15:00")
    past = history(7, START, end_ms=end)
    last = {
        "energy": _last(past.gpu_energy, "energy_uj", end) / 3600,
        "requests": _last(past.token_usage, "requests", end) / 3600,
        "tokens": _last(past.token_usage, "completion_tokens", end) / 3600,
    }
    live, warm = FleetTotals(), FleetTotals()
    for totals, minutes in ((warm, 2), (live, 12)):
        for _ in SimulatedFleet(7).events(end - 35 * 60_000, minutes * 60_000, totals=totals):
            pass
    for name, column in (("energy", "energy_uj"), ("requests", "requests"), ("tokens", "completion_tokens")):
        rate = (sum(getattr(live, column).values()) - sum(getattr(warm, column).values())) / 600
        assert rate == pytest.approx(last[name], rel=0.1), name


def _last(table: rows.Table, column: str, end_ms: int) -> float:
    return float(np.asarray(table[column])[np.asarray(table["window_start"]) == end_ms - MS_PER_HOUR].sum())


@pytest.mark.parametrize(
    ("start", "months", "end"),
    [
        ("2026-01-01", 4, "2026-05-01"), ("2025-11-30", 3, "2026-02-28"), ("2026-08-15T07:00", 12, "2027-08-15T07:00"),
        ("2026-10-31", 2, "2026-12-31"),
    ],
)  # fmt: skip
def test_months_are_calendar_months(start: str, months: int, end: str) -> None:
    assert months_later(ms(start), months) == ms(end)


@pytest.mark.parametrize(
    ("start", "end"), [(START + 1, None), (START, START + 1), (START, START), (-MS_PER_HOUR, None)]
)
def test_a_period_that_is_not_full_hours_is_refused(start: int, end: int | None) -> None:
    with pytest.raises(BadInput, match=r"start_ms|end_ms"):
        history(1, start, end_ms=end)
