"""Output and exit status of `wattlog audit`, for people and for cron."""

from __future__ import annotations

import pytest

from cli import audit_report
from warehouse.audit.findings import (
    ContestedRun,
    GpuCoverage,
    GpuGap,
    SameCalls,
    SequenceGap,
    SilentProducer,
    SplitWorkload,
    StrayWindow,
    UnbalancedWindow,
)
from warehouse.audit.report import Audit

T0 = 1_704_067_200_000
GAP = SequenceGap(
    missing=3,
    topic="wattlog.power.v1",
    source="agent://n1",
    epoch=7,
    expected=10,
    received=7,
    duplicates=2,
    last_event=T0,
)


@pytest.mark.parametrize(
    ("report", "status", "strict"),
    [
        (Audit(), 0, 0),
        (Audit(residual_uj=1), 1, 1),
        (Audit(token_residual_tokens=1), 1, 1),
        (Audit(request_residual=1), 1, 1),
        (Audit(request_residual_uj=1), 1, 1),
        (Audit(hour_residual_uj=1), 1, 1),
        (Audit(hour_residual_counts=1), 1, 1),
        (Audit(day_residual_uj=1), 1, 1),
        (Audit(day_residual_counts=1), 1, 1),
        (Audit(strays=1), 1, 1),
        (Audit(sequence_gaps=1), 3, 3),
        (Audit(contested_messages=1, contested_runs=1), 3, 3),
        (Audit(workloads_split=1, split_workloads=[SplitWorkload(2, "c", "w", [1, 3])]), 3, 3),
        (Audit(residual_uj=1, sequence_gaps=1), 1, 1),
        (Audit(uncovered_ms=1), 0, 3),
        (Audit(silent_producers=1), 0, 3),
        (Audit(restating=1, restating_uj=5, windows_without_work=3, windows_without_energy=2), 0, 0),
    ],
)
def test_the_status_distinguishes_a_residual_from_incomplete_data(report: Audit, status: int, strict: int) -> None:
    assert audit_report.exit_status(report, strict=False) == status
    assert audit_report.exit_status(report, strict=True) == strict


def printed(capsys: pytest.CaptureFixture[str], report: Audit) -> str:
    audit_report.print_report(report, strict=False)
    return capsys.readouterr().out


def test_a_balanced_ledger_is_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(
        capsys, Audit(gpus=2, windows=6, measured_uj=315, active_uj=180, idle_uj=120, unallocated_uj=15)
    ) == (
        "measured 315 µJ = 180 active + 120 idle + 15 unallocated\n"
        "residual 0 µJ over 6 windows; 0 events lost on the log; 100.00 % of the GPUs' time covered\n"
    )


def test_without_a_measured_gpu_no_coverage_is_claimed(capsys: pytest.CaptureFixture[str]) -> None:
    assert "0 events lost on the log; no GPU measured\n" in printed(capsys, Audit(windows=1))


def test_residuals_are_named_with_the_number_of_further_ones(capsys: pytest.CaptureFixture[str]) -> None:
    windows = [UnbalancedWindow(9 - i, T0, "eu", f"w{i}") for i in range(9)]
    report = Audit(residual_uj=45, unbalanced=30, unbalanced_windows=windows, hour_residual_uj=4)
    out = printed(capsys, report)
    assert "2024-01-01T00:00:00.000Z eu/w0: 9 µJ off" in out
    assert "and 21 more" in out
    assert "hours are off by 4 µJ; bills read hours" in out


def test_rows_of_a_fenced_worker_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, Audit(strays=1, stray_windows=[StrayWindow(T0, "eu", "chat")]))
    assert "1 final window has rows of a worker that had lost its partition" in out
    assert "eu/chat" in out


def test_a_restatement_in_progress_is_shown_and_is_no_residual(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, Audit(restating=2, restating_uj=7, restating_windows=[UnbalancedWindow(7, T0, "eu", "chat")]))
    assert "2 windows wait for restatement, or for hours and days (7 µJ)" in out
    assert "residual 0 µJ" in out


def test_requests_that_are_not_stored_are_shown_and_are_no_residual(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, Audit(requests="none", request_windows=4, request_windows_partly=2))
    assert "single requests are not stored (WATTLOG_REQUESTS=none); 4 windows have all requests" in out
    assert "2 windows with only some requests" in out
    assert "request_residual_uj" not in out


def test_requests_that_do_not_sum_name_the_possible_cause(capsys: pytest.CaptureFixture[str]) -> None:
    assert "audit again with WATTLOG_REQUESTS=none" in printed(capsys, Audit(request_residual_uj=7))


def test_missing_data_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    gpu = ("eu", "n1", "GPU-1")
    out = printed(
        capsys,
        Audit(
            producer_runs=4, runs_with_gaps=1, sequence_gaps=3, gaps_by_producer=[GAP], silent_producers=1,
            silent=[SilentProducer(T0, "wattlog.tokens.v1", "gateway://g", T0 + 600_000)], gpus=8, gpus_with_gaps=2,
            uncovered_ms=3_700_000, gpu_gaps=[GpuGap(65_000, T0, T0 + 65_000, *gpu)],
            least_covered=[GpuCoverage(9_000, 10_000, *gpu, T0, T0 + 10_000, "H100")],
        ),
    )  # fmt: skip
    assert "agent://n1 epoch 7 on wattlog.power.v1: 7 of 10 received, 3 missing, 2 duplicates" in out
    assert "gateway://g on wattlog.tokens.v1: nothing since 2024-01-01T00:00:00.000Z" in out
    assert "2 of 8 GPUs were not measured for 1 h 1 min" in out
    assert "eu/n1/GPU-1: 90.00 % covered, 1 s missing" in out
    assert "and 1 more" in out
    assert "1 min 5 s from 2024-01-01T00:00:00.000Z to 2024-01-01T00:01:05.000Z" in out


def test_numbers_that_were_taken_are_named_with_their_times(capsys: pytest.CaptureFixture[str]) -> None:
    run = ContestedRun(
        messages=5, topic="wattlog.tokens.v1", source="http://c/n/w", epoch=7, first_seq=3, last_seq=62,
        first_event=T0, last_event=T0 + 600_000,
    )  # fmt: skip
    out = printed(capsys, Audit(contested_messages=5, contested_runs=1, contested=[run]))
    assert "5 messages are dead letters: another had the number" in out
    assert (
        "http://c/n/w epoch 7 on wattlog.tokens.v1: 5 messages with numbers 3 to 62, of 2024-01-01T00:00:00.000Z to "
        "2024-01-01T00:10:00.000Z"
    ) in out


def test_senders_without_calls_are_listed_and_are_no_finding(capsys: pytest.CaptureFixture[str]) -> None:
    idle = [SilentProducer(T0, "wattlog.tokens.v1", "requests-tokens://eu/gw/chat", T0 + 600_000)]
    report = Audit(idle_senders=1, idle=idle)
    out = printed(capsys, report)
    assert "1 source without calls at the end: they send only when there are calls, so that is no finding" in out
    assert "requests-tokens://eu/gw/chat on wattlog.tokens.v1: its last call was at 2024-01-01T00:00:00.000Z" in out
    assert audit_report.exit_status(report, strict=True) == 0


def test_the_same_calls_from_two_senders_are_named_with_what_stops_each(capsys: pytest.CaptureFixture[str]) -> None:
    pair = SameCalls(
        calls=80, cluster="eu", workload="chat", first="litellm", second="otel (shop)", of_first=120, of_second=80,
        stop="# keep one of them\n# without otel: ...",
    )  # fmt: skip
    report = Audit(senders_twice=1, same_calls=[pair])
    out = printed(capsys, report)
    assert "1 pair of senders with the same calls: their tokens count twice" in out
    assert "litellm and otel (shop): about 80 calls (120 and 80 in all)" in out and "    # without otel: ...\n" in out
    assert audit_report.exit_status(report, strict=True) == 3


def test_names_are_never_read_as_markup(capsys: pytest.CaptureFixture[str]) -> None:
    report = Audit(unbalanced=1, unbalanced_windows=[UnbalancedWindow(1, T0, "eu", "[bold]x")])
    assert "eu/[bold]x" in printed(capsys, report)
