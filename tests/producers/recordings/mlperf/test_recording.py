"""MLPerf runs with power: the published one, and small ones made by the tests."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts.errors import BadInput
from contracts.events import Method
from producers.recordings.base import Recording
from producers.recordings.mlperf.loadgen import read_run
from producers.recordings.mlperf.recording import mlperf, request_times
from tests.producers.recordings.replay import Replayed, replay, wire, write

RUN = {
    "sut_name": "box-Server-SUT",
    "effective_scenario": "Server",
    "generated_query_duration": 9_000_000_000,
    "generated_samples_per_query": 1,
    "power_begin": "07-17-2024 08:00:02.500",
    "power_end": "07-17-2024 08:00:12.500",
    "result_validity": "VALID",
    "result_query_count": 101,
    "result_completed_samples_per_sec": 10,
    "result_min_latency_ns": 100_000_000,
    "result_max_latency_ns": 900_000_000,
    "result_50.00_percentile_latency_ns": 300_000_000,
    "result_99.00_percentile_latency_ns": 800_000_000,
    "result_inferred_completed_tokens_per_second": 70,
}


def _folder(tmp_path: Path, spl: list[str] | None = None, **changes: object) -> Path:
    values = {k: v for k, v in (RUN | changes).items() if v is not None}
    lines = [":::MLLOG " + json.dumps({"key": k, "value": v, "time_ms": 0.1}) for k, v in values.items()]
    write(tmp_path / "mlperf_log_detail.txt", *lines)
    write(tmp_path / "spl.txt", *(spl if spl is not None else [_line(s, 100 + s) for s in range(20)]))
    return tmp_path


def _line(second: float, watts: float | str, *, date: str = "07-17-2024") -> str:
    return f"Time,{date} 08:00:{second:06.3f},Watts,{watts},Volts,239.2,Amps,3.4,PF,0.96,Mark,run"


def _play(folder: Path, **options: object) -> Replayed:
    return replay(mlperf(folder, **options).events())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def published(shared_data: Path) -> Path:
    return shared_data / "power" / "mlperf_gptj-99_Server"


def test_the_published_run_agrees_with_its_own_figures(published: Path) -> None:
    recording = mlperf(published)
    out = replay(recording.events())
    joules, tokens = out.energy_uj["gptj-99/Server"] / 1e6, out.completion["gptj-99/Server"]
    assert recording.workload == "gptj-99/Server"
    assert recording.window[1] - recording.window[0] == 630_922
    assert joules == pytest.approx(2_976_194, rel=1e-4)
    total_j = joules + out.energy_uj[recording.edges] / 1e6
    assert total_j / tokens == pytest.approx(4722.6 / 11_700.81, rel=5e-4)
    assert out.requests["gptj-99/Server"] == 106_944
    assert tokens == 106_944 * 69  # loadgen inferred 69 tokens a sample
    assert tokens / (106_943 / 169.577) == pytest.approx(11_700.81, rel=2e-5)
    assert not out.bad


def test_the_published_run_with_interpolated_edges_agrees_too(published: Path) -> None:
    out = replay(mlperf(published, edges="interpolated").events())
    joules, tokens = out.energy_uj["gptj-99/Server"] / 1e6, out.completion["gptj-99/Server"]
    assert joules == pytest.approx(4722.6 * 630.922, rel=2e-4)
    assert joules / tokens == pytest.approx(4722.6 / 11_700.81, rel=1e-3)


def test_the_total_energy_of_the_log_does_not_depend_on_the_edges_option(published: Path) -> None:
    results = {edges: replay(mlperf(published, edges=edges).events()) for edges in ("readings", "interpolated")}  # type: ignore[arg-type]
    a, b = (sum(out.energy_uj.values()) for out in results.values())
    assert abs(a - b) <= 3
    main, outside = "gptj-99/Server", "gptj-99/Server/outside"
    assert {w for w, uj in results["interpolated"].energy_uj.items() if uj} == {main, outside}
    assert set(results["readings"].energy_uj) == {main, f"{main}/edges", outside}
    with_edges = results["readings"].energy_uj[main] + results["readings"].energy_uj[f"{main}/edges"]
    assert with_edges == pytest.approx(results["interpolated"].energy_uj[main], abs=2)


def test_intervals_follow_each_other_without_gap_or_overlap(published: Path) -> None:
    rows = sorted(replay(mlperf(published).events()).power_rows, key=lambda r: r[1])
    assert all(a[2] == b[1] for a, b in pairwise(rows))
    assert {r[4] for r in rows} == {Method.INTEGRATED}


def test_the_published_requests_have_the_logged_latencies(published: Path) -> None:
    run = read_run(published, 0)
    start, end = request_times(run)
    latency = np.sort(end - start)
    assert start.min() == run.begin_ms
    assert end.max() <= run.end_ms
    assert np.percentile(latency, 50) == pytest.approx(2909.3, abs=5)
    assert np.percentile(latency, 90) == pytest.approx(4511.6, abs=15)


def test_a_folder_always_gives_the_same_bytes(published: Path) -> None:
    assert wire(mlperf(published).events()) == wire(mlperf(published).events())


def test_energy_between_readings_is_that_of_the_readings_in_the_window(tmp_path: Path) -> None:
    # Readings at 3 ... 12 s lie in [2.5, 12.5): nine trapezoids from 103 to 112 W.
    assert _play(_folder(tmp_path)).energy_uj == {
        "box/Server": 967_500_000,
        "box/Server/edges": 107_500_000,
        "box/Server/outside": 19 * 109_500_000 - 967_500_000 - 107_500_000,
    }


def test_energy_with_interpolated_edges_is_cut_on_the_line_between_readings(tmp_path: Path) -> None:
    # 102.5 W to 112.5 W over 10 s.
    assert _play(_folder(tmp_path), edges="interpolated").energy_uj["box/Server"] == 1_075_000_000


def test_every_sample_is_a_request_in_the_window(tmp_path: Path) -> None:
    recording = mlperf(_folder(tmp_path))
    out = replay(recording.events())
    assert len({r[0] for r in out.token_rows}) == out.requests["box/Server"] == 101
    assert all(recording.window[0] <= r[2] <= r[4] <= recording.window[1] for r in out.token_rows)
    assert out.completion["box/Server"] == 707
    assert out.prompt["box/Server"] == 0


@pytest.mark.parametrize(
    ("changes", "tokens"),
    [
        ({}, 707),  # inferred: samples x 7
        ({"result_inferred_completed_tokens_per_second": 70.0001}, 707),  # the same, as printed with six digits
        ({"result_inferred_completed_tokens_per_second": 72.5}, 732),  # no whole number a sample
        ({"result_completed_tokens_per_second": 65}, 650),  # counted, over the 10 s of 100 samples at 10/s
        ({"result_inferred_completed_tokens_per_second": None}, 0),
    ],
)
def test_tokens_come_from_the_rates_in_the_log(tmp_path: Path, changes: dict[str, object], tokens: int) -> None:
    recording = mlperf(_folder(tmp_path, **changes))
    assert replay(recording.events()).completion["box/Server"] == tokens
    assert any("counts no tokens" in n for n in recording.notes) == (tokens == 0)


def test_offline_issues_all_samples_at_once(tmp_path: Path) -> None:
    changes = {
        "effective_scenario": "Offline", "sut_name": "box-Offline-SUT", "generated_query_duration": None,
        "result_query_count": 1, "generated_samples_per_query": 50, "result_completed_samples_per_sec": None,
        "result_samples_per_second": 10, "result_inferred_completed_tokens_per_second": None,
        "result_tokens_per_second": 123, "result_max_latency_ns": 5_000_000_000,
    }  # fmt: skip
    out = _play(_folder(tmp_path, **changes))
    assert out.requests["box/Offline"] == 50
    assert out.completion["box/Offline"] == 615
    assert len({r[2] for r in out.token_rows}) == 1


@pytest.mark.parametrize(
    ("folder", "workload"),
    [
        ("mlperf_gptj-99_Server", "gptj-99/Server"),
        ("results/sys/llama2-70b-99/Server/performance/run_1", "llama2-70b-99/Server"),
        ("anything", "box/Server"),
    ],
)
def test_the_workload_is_named_after_folder_or_system(tmp_path: Path, folder: str, workload: str) -> None:
    (tmp_path / folder).mkdir(parents=True)
    assert mlperf(_folder(tmp_path / folder)).workload == workload


def test_names_can_be_configured(tmp_path: Path) -> None:
    recording = mlperf(_folder(tmp_path), cluster="c", tenant="t", workload="w", hardware="8xH200 (wall)")
    out = replay(recording.events())
    assert {e.cluster for e in out.events} == {"c"}
    assert {r[1] for r in out.token_rows} == {"t"}
    assert set(out.energy_uj) == {"w", "w/edges", "w/outside"}
    assert {h for e in out.events for _, h in getattr(e.batch, "gpus", ())} == {"8xH200 (wall)"}


def test_times_are_utc_unless_an_offset_is_configured(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    utc, berlin = mlperf(folder), mlperf(folder, utc_offset="+02:00")
    assert utc.window[0] == 1_721_203_202_500
    assert berlin.window[0] == utc.window[0] - 7_200_000


@pytest.mark.parametrize("date", ["07-17-2024", "07/17/2024", "2024-07-17", "2024/07/17"])
def test_dates_with_the_month_or_the_year_first_are_read(tmp_path: Path, date: str) -> None:
    folder = _folder(tmp_path, [_line(s, 100 + s, date=date) for s in range(20)])
    assert _play(folder).energy_uj["box/Server"] == 967_500_000


def test_the_zone_of_the_meter_can_be_configured(tmp_path: Path) -> None:
    folder = _folder(tmp_path, [_line(s, 100 + s).replace(" 08:", " 15:") for s in range(20)])
    with pytest.raises(BadInput, match="another zone"):
        mlperf(folder)
    assert _play(folder, power_utc_offset="+07:00").energy_uj["box/Server"] == 967_500_000


BAD_LINES = [
    ("hello", "", "no power reading"),
    ("Time,07-17-2024 08:00:05.500,Volts,1", "", "no power reading"),
    (_line(5.5, "nan"), "Watts", "give 0 to"),
    (_line(5.5, "-1.0"), "Watts", "give 0 to"),
    (_line(5.5, "many"), "Watts", "not a number of watts"),
    (_line(5.5, 1, date="17-07-2024"), "Time", "not a time"),
    (_line(5.5, 1, date="17.07.2024"), "Time", "not a stamp"),
    (_line(5.0, 1), "Time", "not after the reading before it"),
    (_line(4.0, 1), "Time", "not after the reading before it"),
]


@pytest.mark.parametrize(("line", "column", "reason"), BAD_LINES)
def test_a_bad_power_line_is_reported_and_the_others_are_replayed(
    tmp_path: Path, line: str, column: str, reason: str
) -> None:
    good = [_line(s, 100 + s) for s in range(20)]
    out = _play(_folder(tmp_path, [*good[:6], line, *good[6:]]))
    (bad,) = out.bad
    assert (bad.file, bad.line, bad.column) == ("spl.txt", 7, column)
    assert reason in bad.reason
    assert out.energy_uj["box/Server"] == 967_500_000


def test_a_long_gap_is_estimated_and_reported(tmp_path: Path) -> None:
    folder = _folder(tmp_path, [_line(s, 100 + s) for s in (0, 1, 2, 3, 15, 16)], power_begin="07-17-2024 08:00:00.500")
    recording = mlperf(folder, edges="interpolated")
    methods = {r[1:3]: r[4] for r in replay(recording.events()).power_rows}
    assert Method.ESTIMATED in methods.values()
    assert any("gap" in n for n in recording.notes)


BROKEN = [
    ({"power_begin": None}, "power_begin.*measured power"),
    ({"power_end": None}, "power_end"),
    ({"power_end": "yesterday"}, "power_end.*not a stamp"),
    ({"power_end": "07-17-2024 08:00:01.000"}, "after power_begin"),
    ({"sut_name": None}, "sut_name"),
    ({"effective_scenario": None}, "effective_scenario"),
    ({"result_query_count": None}, "result_query_count"),
    ({"result_query_count": 0}, "result_query_count"),
    ({"result_query_count": "many"}, "result_query_count"),
    ({"result_query_count": 10**11}, "result_query_count"),
    ({"generated_query_duration": None}, "generated_query_duration"),
    ({"result_min_latency_ns": None}, "result_min_latency_ns"),
    ({"result_min_latency_ns": 10**12}, "must not fall"),
]


@pytest.mark.parametrize(("changes", "message"), BROKEN)
def test_a_log_without_required_values_names_them(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        mlperf(_folder(tmp_path, **changes))


@pytest.mark.parametrize(
    ("spl", "message"),
    [
        ([], "no reading"),
        ([_line(s, 1) for s in range(5)], "spans"),
        ([_line(s, 1) for s in (0, 5, 13)], "two readings"),
    ],
)
def test_a_power_log_that_does_not_span_the_run_is_refused(tmp_path: Path, spl: list[str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        mlperf(_folder(tmp_path, spl))


def test_a_missing_or_foreign_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"mlperf_log_detail\.txt"):
        mlperf(tmp_path)
    write(tmp_path / "mlperf_log_detail.txt", "hello")
    with pytest.raises(BadInput, match=":::MLLOG"):
        mlperf(tmp_path)
    write(tmp_path / "mlperf_log_detail.txt", ':::MLLOG {"key": "power')
    with pytest.raises(BadInput, match="line 1"):
        mlperf(tmp_path)


OFFLINE = {
    "effective_scenario": "Offline",
    "result_query_count": 1,
    "generated_samples_per_query": 1000,
    "result_completed_samples_per_sec": None,
    "result_samples_per_second": 107.0,
    "result_inferred_completed_tokens_per_second": None,
    "result_tokens_per_second": 749.0,
    "result_min_latency_ns": 1_000_000,
    "result_50.00_percentile_latency_ns": 5_000_000_000,
    "result_99.00_percentile_latency_ns": 9_900_000_000,
    "result_max_latency_ns": 10_000_000_000,
}


def _note(recording: Recording, word: str) -> str:
    return next((note for note in recording.notes if word in note), "")


@pytest.mark.parametrize(
    ("rate", "samples", "noted"),
    [
        (100.0, 1000, False),
        (100.0009, 1000, False),  # six digits are printed
        (107.0, 1070, True),  # padded to whole copies of the data set
        (90.0, 900, True),
    ],
)
def test_samples_of_an_offline_run_are_its_rate_times_its_longest_latency(
    tmp_path: Path, rate: float, samples: int, noted: bool
) -> None:
    changes = OFFLINE | {"result_samples_per_second": rate, "result_tokens_per_second": 7 * rate}
    recording = mlperf(_folder(tmp_path, **changes), workload="w")
    out = replay(recording.events())
    assert out.requests["w"] == samples
    assert out.completion["w"] == pytest.approx(7 * rate * 10, abs=1)
    assert bool(_note(recording, "the log counts 1,000")) == noted
    assert "copies of the data set" in _note(recording, "the log counts") or rate < 107


@pytest.mark.parametrize(("edges", "parts"), [("readings", "w and w/edges"), ("interpolated", "w")])
def test_a_note_says_which_workloads_make_the_figures_of_a_bill(tmp_path: Path, edges: Any, parts: str) -> None:
    note = _note(mlperf(_folder(tmp_path), workload="w", edges=edges), "--by workload")
    assert note.startswith(f"Energy per token and sample is that of {parts}. ")
    assert note.endswith(", w/outside.")


def test_every_run_with_a_rate_has_its_own_energy_per_sample(tmp_path: Path) -> None:
    recording = mlperf(_folder(tmp_path, **OFFLINE))
    key = "energy per sample (mean power / samples per second)"
    watts = float(recording.references["mean power of readings"].split()[0])
    assert float(recording.references[key].split()[0]) == pytest.approx(watts / 107, rel=1e-3)


def test_power_measured_for_longer_than_the_rates_span_is_noted(tmp_path: Path) -> None:
    changes = {"result_completed_samples_per_sec": 10.1, "result_inferred_completed_tokens_per_second": 70.7}
    assert "0.099 s (1.00%) more" in _note(mlperf(_folder(tmp_path, **changes)), "loadgen's rates")
    assert not _note(mlperf(_folder(tmp_path, result_completed_samples_per_sec=10.0)), "loadgen's rates")


@pytest.mark.parametrize("scenario", ["Offline", "Server"])
def test_a_run_of_more_samples_than_memory_holds_has_rows_of_several_requests(
    tmp_path: Path, scenario: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producers.recordings.mlperf.recording.MAX_OPEN_PIECES", 5_000)
    samples = 480_000_007
    changes: dict[str, object] = {"result_query_count": samples, "result_inferred_completed_tokens_per_second": 10}
    if scenario == "Offline":
        rates = {"result_samples_per_second": 48e6, "result_tokens_per_second": 48e6}
        changes = OFFLINE | rates | {"generated_samples_per_query": samples}
    recording = mlperf(_folder(tmp_path, **changes), workload="w")
    out = replay(recording.events())
    assert out.requests["w"] == out.completion["w"] == samples
    assert 2_000 < len(out.token_rows) <= 5_000
    assert _note(recording, f"{len(out.token_rows):,} rows stand for the 480,000,007 requests")
