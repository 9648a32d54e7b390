"""Times of the power file: zones, changes of the clocks, relative times, the future."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from contracts.errors import BadInput
from producers.recordings.csv.recording import csv_recording
from tests.producers.recordings.csv.power import energy
from tests.producers.recordings.replay import replay, write

HEADER = "timestamp, index, power.draw [W]"
CHANGES = {
    "Europe/Berlin": ("2026-10-25T01:00:00Z", "2026-03-29T01:00:00Z"),
    "America/New_York": ("2025-11-02T06:00:00Z", "2026-03-08T07:00:00Z"),
    "Australia/Lord_Howe": ("2026-04-04T15:00:00Z", "2025-10-04T15:30:00Z"),
}
"""When clocks go back, and forward, in these zones."""


def _local(zone: str, around: str, *, before_s: int, after_s: int, step_s: int = 30, gpus: int = 1) -> list[str]:
    """Return a file with the local stamps of a zone, around a moment."""
    moment = int(datetime.fromisoformat(around).timestamp())
    lines = [HEADER]
    for second in range(moment - before_s, moment + after_s + 1, step_s):
        stamp = datetime.fromtimestamp(second, ZoneInfo(zone)).strftime("%Y/%m/%d %H:%M:%S.000")
        lines += [f"{stamp}, {gpu}, 300.00 W" for gpu in range(gpus)]
    return lines


@pytest.mark.parametrize("zone", CHANGES)
@pytest.mark.parametrize("change", [0, 1], ids=["back", "forward"])
@pytest.mark.parametrize("gpus", [1, 3])
def test_with_the_name_of_the_zone_changes_of_the_clocks_come_out_right(
    tmp_path: Path, zone: str, change: int, gpus: int
) -> None:
    around = CHANGES[zone][change]
    replayed = energy(tmp_path / "p.csv", _local(zone, around, before_s=5400, after_s=5400, gpus=gpus), timezone=zone)
    assert replayed.by_method == {"integrated": gpus * 300 * 10_800}
    assert replayed.start_ms == (datetime.fromisoformat(around).timestamp() - 5400) * 1000
    assert ("an hour that occurs twice" in replayed.notes) == (change == 0)


@pytest.mark.parametrize(("before_s", "after_s"), [(3000, 6000), (-600, 6000), (3000, 3000), (3000, 0)])
def test_a_file_may_begin_or_end_in_the_hour_that_occurs_twice(tmp_path: Path, before_s: int, after_s: int) -> None:
    around = CHANGES["Europe/Berlin"][0]
    lines = _local("Europe/Berlin", around, before_s=before_s, after_s=after_s)
    replayed = energy(tmp_path / "p.csv", lines, timezone="Europe/Berlin")
    assert replayed.by_method == {"integrated": 300 * (before_s + after_s)}
    assert replayed.start_ms == (datetime.fromisoformat(around).timestamp() - before_s) * 1000


@pytest.mark.parametrize("zone", CHANGES)
@pytest.mark.parametrize("options", [{}, {"utc_offset": "+02:00"}], ids=["UTC", "an offset"])
def test_times_that_go_back_as_clocks_do_need_the_name_of_the_zone(
    tmp_path: Path, zone: str, options: dict[str, str]
) -> None:
    lines = _local(zone, CHANGES[zone][0], before_s=1800, after_s=1800, step_s=7)
    offset = {"utc_offset": "+00:00", **options}["utc_offset"]
    with pytest.raises(BadInput, match=r"line 26\d: times go back \d+ minutes, as clocks do.*--timezone"):
        energy(tmp_path / "p.csv", lines, utc_offset=offset)


def test_times_that_leap_ahead_as_clocks_do_are_noted(tmp_path: Path) -> None:
    lines = _local("Europe/Berlin", CHANGES["Europe/Berlin"][1], before_s=600, after_s=600)
    assert "leap ahead as clocks do then in Europe/Berlin" in energy(tmp_path / "p.csv", lines).notes


def test_times_with_a_zone_of_their_own_need_none(tmp_path: Path) -> None:
    begin = int(datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp())
    zone = ZoneInfo("Europe/Berlin")
    lines = [HEADER, *(f"{datetime.fromtimestamp(begin + s, zone).isoformat()}, 0, 300" for s in range(0, 3601, 60))]
    for options in ({}, {"timezone": "America/New_York"}):
        assert energy(tmp_path / "p.csv", lines, **options).joules == 300 * 3600


def test_a_local_time_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    lines = [HEADER, *(f"2026/03/29 0{h}:30:00, 0, 300 W" for h in (1, 2, 3))]
    replayed = energy(tmp_path / "p.csv", lines, timezone="Europe/Berlin", max_gap_ms=3_600_000)
    assert [(row.line, row.reason) for row in replayed.bad] == [
        (3, "does not exist in Europe/Berlin: the clocks went forward over it")
    ]


@pytest.mark.parametrize("zone", ["Europe/Nowhere", "CEST", "../etc/passwd", "x" * 300, "\0"])
def test_an_unknown_zone_is_refused(tmp_path: Path, zone: str) -> None:
    with pytest.raises(BadInput, match="give the name of a zone, such as"):
        energy(tmp_path / "p.csv", [HEADER], timezone=zone)


def test_a_zone_and_an_offset_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not both"):
        energy(tmp_path / "p.csv", [HEADER], timezone="Europe/Berlin", utc_offset="+02:00")


@pytest.mark.parametrize(
    ("header", "cells"),
    [("elapsed_s", "0 10 20"), ("time_s", "0 10.0 20.0"), ("elapsed_ms", "0 10000 20000"), ("time", "0 10 20"),
     ("elapsed [min]", "0 0.16667 0.33334"), ("seconds", "0 10 20"), ("timestamp [ms]", "0 10000 20000")],
)  # fmt: skip
def test_relative_times_count_from_the_start(tmp_path: Path, header: str, cells: str) -> None:
    lines = [f"{header},gpu,power_w", *(f"{cell},0,100" for cell in cells.split())]
    replayed = energy(tmp_path / "p.csv", lines, start="2026-07-01T10:00:00Z")
    assert (replayed.joules, replayed.start_ms) == (pytest.approx(2000, abs=0.1), 1_782_900_000_000)
    with pytest.raises(BadInput, match="give --start"):
        energy(tmp_path / "p.csv", lines)


def test_the_start_is_local_where_it_names_no_zone(tmp_path: Path) -> None:
    lines = ["elapsed_s,gpu,power_w", "0,0,100", "10,0,100"]
    for options in ({"timezone": "Europe/Berlin"}, {"utc_offset": "+02:00"}):
        assert energy(tmp_path / "p.csv", lines, start="2026-07-01 12:00", **options).start_ms == 1_782_900_000_000
    with pytest.raises(BadInput, match="start"):
        energy(tmp_path / "p.csv", lines, start="noon")


@pytest.mark.parametrize(
    ("stamp", "ms"),
    [("2026-07-01 10:00:00 UTC", 0), ("2026-07-01 12:00:00 +0200", 0), ("2026-07-01T10:00:00.5Z", 500)],
)
def test_a_zone_behind_a_stamp_is_read(tmp_path: Path, stamp: str, ms: int) -> None:
    lines = [HEADER, f"{stamp}, 0, 1", "2026-07-01T10:00:09Z, 0, 1"]
    assert energy(tmp_path / "p.csv", lines).start_ms == 1_782_900_000_000 + ms


def test_a_date_in_a_column_of_its_own_is_read(tmp_path: Path) -> None:
    lines = ["date,time,index,power_w", *(f"2026-07-01,10:00:0{s},0,100" for s in range(5))]
    assert energy(tmp_path / "p.csv", lines).start_ms == 1_782_900_000_000


@pytest.mark.parametrize(("ahead_s", "amount"), [(7200, "2 h"), (300, "5 min"), (5400, "1.5 h")])
def test_a_recording_that_ends_in_the_future_is_refused(tmp_path: Path, ahead_s: int, amount: str) -> None:
    lines = ["time,gpu,power_w", "1700000000,0,1", f"{1_700_000_000 + ahead_s},0,1"]
    path = write(tmp_path / "p.csv", *lines)
    with pytest.raises(BadInput, match=f"ends {amount} in the future.*--timezone"):
        csv_recording(None, path, now_ms=1_700_000_000_000, max_gap_ms=10**7)
    assert csv_recording(None, path, now_ms=(1_700_000_000 + ahead_s) * 1000, max_gap_ms=10**7).rows == 1


def test_requests_are_in_the_zone_of_the_power_file(tmp_path: Path) -> None:
    tokens = write(
        tmp_path / "t.csv", "start,end,tenant,model,prompt_tokens,completion_tokens",
        "2026-10-25 02:30:00,2026-10-25 02:31:00,a,m,1,1", "2026-10-25 02:59:00,2026-10-25 02:01:00,a,m,1,1",
        "2026-10-25 02:10:00,2026-10-25 02:11:00,a,m,1,1",
    )  # fmt: skip
    power = write(
        tmp_path / "p.csv", *_local("Europe/Berlin", CHANGES["Europe/Berlin"][0], before_s=3600, after_s=3600)
    )
    out = replay(csv_recording(tokens, power, timezone="Europe/Berlin").events())
    begin = int(datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp())
    assert [(row[2] // 1000 - begin, row[4] // 1000 - begin) for row in out.token_rows] == [
        (0, 60), (1740, 1860), (2400, 2460),
    ]  # fmt: skip
