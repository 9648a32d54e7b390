"""CSV files of the user's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.errors import BadInput
from contracts.events import Method
from producers.recordings.csv.columns import POWER_COLUMNS
from producers.recordings.csv.recording import csv_recording
from producers.recordings.csv_requests import TOKEN_COLUMNS
from tests.producers.recordings.replay import Replayed, replay, wire, write
from tests.support.paths import ROOT

TOKENS = "start,end,tenant,model,prompt_tokens,completion_tokens"
POWER = "time,gpu,power_w"
T0 = 1_700_000_000


def _play(tmp_path: Path, tokens: list[str], power: list[str], **options: object) -> Replayed:
    files = write(tmp_path / "tokens.csv", *tokens), write(tmp_path / "power.csv", *power)
    return replay(csv_recording(*files, **options).events())  # type: ignore[arg-type]


def _steady(*, header: str = POWER, cells: str = "g,100", seconds: int = 4) -> list[str]:
    return [header, *(f"{T0 + s},{cells}" for s in range(seconds))]


def test_watts_become_integrated_intervals(tmp_path: Path) -> None:
    out = _play(tmp_path, [TOKENS], [POWER, f"{T0},g,100", f"{T0 + 1},g,200", f"{T0 + 3},g,200"])
    assert out.power_rows == [
        ("g", T0 * 1000, T0 * 1000 + 1000, 150_000_000, Method.INTEGRATED, -1),
        ("g", T0 * 1000 + 1000, T0 * 1000 + 3000, 400_000_000, Method.INTEGRATED, -1),
    ]


@pytest.mark.parametrize(("column", "cells"), [("energy_mj", ("5", "2505")), ("energy_j", ("0.005", "2.505"))])
def test_counters_become_counted_intervals_over_any_gap(tmp_path: Path, column: str, cells: tuple[str, str]) -> None:
    rows = [f"time,gpu,{column}", f"{T0},g,{cells[0]}", f"{T0 + 3600},g,{cells[1]}"]
    assert [r[3:5] for r in _play(tmp_path, [TOKENS], rows).power_rows] == [(2_500_000, Method.COUNTER)]


def test_a_counter_reset_is_estimated_from_watts(tmp_path: Path) -> None:
    rows = [
        "time,gpu,energy_mj,power_w",
        f"{T0},g,9000000,100",
        f"{T0 + 1},g,9000100,100",
        f"{T0 + 2},g,50,100",
        f"{T0 + 3},g,100050,100",
    ]
    methods = [(r[3], r[4]) for r in _play(tmp_path, [TOKENS], rows).power_rows]
    assert methods == [
        (100_000, Method.COUNTER), (100_000_000, Method.ESTIMATED), (100_000_000, Method.ESTIMATED),
    ]  # fmt: skip


def test_a_counter_reset_without_watts_is_a_gap_named_in_the_notes(tmp_path: Path) -> None:
    power = write(tmp_path / "p.csv", "time,gpu,energy_mj", f"{T0},g,9000", f"{T0 + 1},g,50", f"{T0 + 2},g,150")
    recording = csv_recording(write(tmp_path / "t.csv", TOKENS), power)
    assert [r[3] for r in replay(recording.events()).power_rows] == [100_000]
    assert any("1 gap" in n for n in recording.notes)


def test_watts_are_not_integrated_over_a_long_gap(tmp_path: Path) -> None:
    rows = [POWER, f"{T0},g,100", f"{T0 + 1},g,100", f"{T0 + 900},g,100", f"{T0 + 901},g,100"]
    assert sum(r[3] for r in _play(tmp_path, [TOKENS], rows).power_rows) == 200_000_000
    assert sum(r[3] for r in _play(tmp_path, [TOKENS], rows, max_gap_ms=900_000).power_rows) == 90_100_000_000


def test_a_gpu_that_changes_holders_is_charged_to_its_holder_at_the_time(tmp_path: Path) -> None:
    rows = ["time,gpu,power_w,workload,cluster,node,owner", f"{T0},g,100,a,c,n,o", f"{T0 + 1},g,100,a,c,n,o",
            f"{T0 + 3},g,100,b,c,n,o", f"{T0 + 4},g,100,b,c,n,o"]  # fmt: skip
    out = _play(tmp_path, [TOKENS], rows)
    assert out.energy_uj == {"a": 300_000_000, "b": 100_000_000}
    assert {(e.cluster, e.batch.owner) for e in out.events if len(e.batch)} == {("c", "o")}  # type: ignore[union-attr]


def test_a_request_keeps_all_its_columns(tmp_path: Path) -> None:
    header = TOKENS + ",first,cached_tokens,request_id,status,session_id,trace_id,workload,cluster"
    row = "2023-11-14T22:13:20Z,2023-11-14T22:13:23Z,acme,llama,10,20,2023-11-14T22:13:21Z,4,r1,error,s1,t1,chat,eu"
    out = _play(tmp_path, [header, row], _steady())
    t = T0 * 1000
    assert out.token_rows == [("r1", "acme", t, t + 1000, t + 3000, 10, 4, 20)]
    (event,) = (e for e in out.events if e.workload == "chat" and getattr(e.batch, "request_id", ()))
    batch = event.batch
    assert (event.cluster, batch.session_id, batch.trace_id, batch.statuses) == ("eu", ("s1",), ("t1",), ("error",))  # type: ignore[union-attr]


def test_an_unnamed_request_is_named_after_its_line(tmp_path: Path) -> None:
    out = _play(tmp_path, [TOKENS, f"{T0},{T0},a,m,1,1", "", f"{T0},{T0},a,m,1,1"], _steady())
    assert [r[0] for r in out.token_rows] == ["tokens-2", "tokens-4"]


def test_nvidia_smi_output_is_read_as_it_is(shared_data: Path, tmp_path: Path) -> None:
    power = shared_data / "power" / "nvidia_smi_A100_transient.csv"
    recording = csv_recording(write(tmp_path / "t.csv", TOKENS), power, gpu="A100-1", hardware="A100")
    out = replay(recording.events())
    assert not out.bad
    assert {r[0] for r in out.power_rows} == {"A100-1"}
    assert len(out.power_rows) == 1_244
    assert 100 < sum(r[3] for r in out.power_rows) / 1e3 / (recording.end_ms - recording.start_ms) < 120
    assert any("names no GPU" in n for n in recording.notes)


def test_nvidia_smi_columns_units_and_missing_values_are_read(tmp_path: Path) -> None:
    rows = [
        "timestamp, uuid, name, utilization.gpu [%], power.draw [W]",
        "2023/11/14 22:13:20.000, GPU-1, NVIDIA H100, 50 %, 215.34 W",
        "2023/11/14 22:13:21.000, GPU-1, NVIDIA H100, 50 %, [Unknown Error]",
        "2023/11/14 22:13:22.000, GPU-1, NVIDIA H100, [N/A], [N/A]",
        "2023/11/14 22:13:22.000, GPU-2, NVIDIA H100, 50, 0.00 W",
        "2023/11/14 22:13:24.000, GPU-1, NVIDIA H100, 50 %, 215.34 W",
    ]
    out = _play(tmp_path, [TOKENS], rows)
    assert [(b.line, b.column, b.value) for b in out.bad] == [
        (3, "power.draw", "[Unknown Error]"),
        (4, "power.draw", "[N/A]"),
    ]
    assert out.power_rows == [("GPU-1", T0 * 1000, T0 * 1000 + 4000, 861_360_000, Method.INTEGRATED, 2000)]


BAD_TOKENS = [
    ("x,1700000001,a,m,1,1", "start"),
    ("1700000001,1700000000,a,m,1,1", "end"),
    ("1700000001,1700090000,a,m,1,1", "end"),
    ("1700000001,,a,m,1,1", "end"),
    ("1700000001,1700000001,,m,1,1", "tenant"),
    ("1700000001,1700000001,__idle__,m,1,1", "tenant"),
    ("1700000001,1700000001,a\x07b,m,1,1", "tenant"),
    ("1700000001,1700000001," + "a" * 300 + ",m,1,1", "tenant"),
    ("1700000001,1700000001,a,,1,1", "model"),
    ("1700000001,1700000001,a,m,-1,1", "prompt_tokens"),
    ("1700000001,1700000001,a,m,1,1.5", "completion_tokens"),
    ("1700000001,1700000001,a,m,1,3000000000", "completion_tokens"),
    ("1700000001,1700000001,a,m,1", ""),
    ("1700000001,1700000001,a,m,1,1,1", ""),
    ('1700000001,1700000001,"a,m,1,1', ""),
]


@pytest.mark.parametrize(("row", "column"), BAD_TOKENS)
def test_a_bad_request_is_reported_and_the_others_are_replayed(tmp_path: Path, row: str, column: str) -> None:
    good = f"{T0},{T0 + 1},a,m,5,5"
    out = _play(tmp_path, [TOKENS, good, row, good], _steady())
    assert [(b.file, b.line, b.column) for b in out.bad] == [("tokens.csv", 3, column)]
    assert out.prompt["csv"] == 10


@pytest.mark.parametrize(("cells", "column"), [("2023-11-14T22:13:20Z,9,9", "first"), ("1,11,10", "cached_tokens")])
def test_optional_columns_are_checked_too(tmp_path: Path, cells: str, column: str) -> None:
    first, cached, prompt = cells.split(",")
    row = f"{T0 + 1},{T0 + 2},a,m,{prompt},1,{first if column == 'first' else ''},{cached}"
    out = _play(tmp_path, [TOKENS + ",first,cached_tokens", row, f"{T0},{T0},a,m,1,1,,"], _steady())
    assert [b.column for b in out.bad] == [column]


BAD_POWER = [
    ("x,g,100", "time"),
    ("1700000001.5,g,", "power_w"),
    ("1700000001.5,g,lots", "power_w"),
    ("1700000001.5,g,-3", "power_w"),
    ("1700000001.5,g,9223372036854775794", "power_w"),
    ("1700000001.5,g\x07,100", "gpu"),
    ("1700000001,g,100", "time"),
    ("1700000001.5,g", ""),
]


@pytest.mark.parametrize(("row", "column"), BAD_POWER)
def test_a_bad_reading_is_reported_and_the_others_are_replayed(tmp_path: Path, row: str, column: str) -> None:
    rows = _steady()
    out = _play(tmp_path, [TOKENS], [*rows[:3], row, *rows[3:]])
    assert [(b.file, b.line, b.column) for b in out.bad] == [("power.csv", 4, column)]
    assert out.energy_uj["csv"] == 300_000_000


@pytest.mark.parametrize("cell", ["9223372036854775794", "-5", "1e999999999", "NaN", "x"])
def test_an_invalid_counter_is_reported(tmp_path: Path, cell: str) -> None:
    rows = ["time,gpu,energy_mj", f"{T0},g,1", f"{T0 + 1},g,{cell}", f"{T0 + 2},g,5"]
    out = _play(tmp_path, [TOKENS], rows)
    assert [(b.line, b.column) for b in out.bad] == [(3, "energy_mj")]
    assert out.energy_uj["csv"] == 4_000


def test_unsorted_files_give_the_events_of_sorted_ones(tmp_path: Path) -> None:
    power = [f"{T0 + s},g{s % 2},{100 + s}" for s in range(60)]
    tokens = [f"{T0 + s},{T0 + s + 5},a,m,{s},1,r{s}" for s in range(60)]
    one = _play(tmp_path, [TOKENS + ",request_id", *tokens], [POWER, *power])
    two = _play(tmp_path, [TOKENS + ",request_id", *tokens[::-1]], [POWER, *power[::-1]])
    assert one.power_rows == two.power_rows
    assert sorted(one.token_rows) == sorted(two.token_rows)
    assert not two.bad


def test_both_files_share_workloads_and_span(tmp_path: Path) -> None:
    files = write(tmp_path / "t.csv", TOKENS, f"{T0 - 5},{T0 + 1},a,m,1,1"), write(tmp_path / "p.csv", *_steady())
    recording = csv_recording(*files, workload="chat", cluster="eu")
    assert (recording.start_ms, recording.end_ms) == ((T0 - 5) * 1000, (T0 + 3) * 1000)
    assert {(e.cluster, e.workload) for e in replay(recording.events()).events} == {("eu", "chat")}


def test_a_file_always_gives_the_same_bytes_and_a_corrected_one_is_another_recording(tmp_path: Path) -> None:
    files = write(tmp_path / "t.csv", TOKENS, f"{T0},{T0},a,m,1,1"), write(tmp_path / "p.csv", *_steady())
    first = wire(csv_recording(*files).events())
    assert wire(csv_recording(*files).events()) == first
    write(files[0], TOKENS, f"{T0},{T0},a,m,1,2")
    before = {dict(headers)["ce_source"] for headers, _ in first}  # type: ignore[misc]
    after = {dict(headers)["ce_source"] for headers, _ in wire(csv_recording(*files).events())}  # type: ignore[misc]
    assert not before & after


def test_times_without_a_zone_are_in_the_configured_zone(tmp_path: Path) -> None:
    row = "2023-11-14 22:13:20,2023-11-14T22:13:20Z,a,m,1,1"
    files = write(tmp_path / "t.csv", TOKENS, row, f"{T0},{T0},a,m,1,1"), write(tmp_path / "p.csv", *_steady())
    bad, good = (replay(csv_recording(*files, utc_offset=z).events()) for z in ("-02:00", "+02:00"))
    assert [b.column for b in bad.bad] == ["end"]
    assert good.token_rows[0][2] == (T0 - 7200) * 1000


@pytest.mark.parametrize(
    ("tokens", "power", "message"),
    [
        ([], [POWER], "tokens.csv': is empty"),
        ([TOKENS], [], "power.csv': is empty"),
        ([TOKENS], [POWER], "neither"),
        (["start,end"], [POWER], "tenant and model and prompt_tokens and completion_tokens"),
        ([TOKENS], ["gpu,power_w"], "needs time"),
        ([TOKENS], ["time,gpu"], "energy_mj, energy_j or power_w"),
    ],
)
def test_an_unreadable_file_is_refused_with_the_requirements(
    tmp_path: Path, tokens: list[str], power: list[str], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        _play(tmp_path, tokens, power)


def test_a_day_of_power_without_requests_is_a_recording(tmp_path: Path) -> None:
    assert _play(tmp_path, [TOKENS], _steady()).energy_uj["csv"] == 300_000_000


def test_requests_without_power_are_a_recording(tmp_path: Path) -> None:
    assert _play(tmp_path, [TOKENS, f"{T0},{T0 + 1},a,m,5,5"], [POWER]).prompt["csv"] == 5


def test_the_documentation_names_every_column() -> None:
    page = (ROOT / "producers" / "recordings" / "csv" / "README.md").read_text(encoding="utf-8")
    columns = {**POWER_COLUMNS, **TOKEN_COLUMNS}
    assert not [name for names in columns.values() for name in names if f"`{name}`" not in page]
