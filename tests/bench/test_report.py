"""The report states targets as met, missed or not measured, and replaces only the marked text."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest

from bench import report
from bench.__main__ import chosen, for_report, parts
from bench.harness import picture, targets


def _result(name: str, kind: str, shape: str, rate: float) -> dict[str, Any]:
    figure = {"median": rate, "least": 0.9 * rate, "most": 1.1 * rate, "runs": 3}
    return {"name": name, "kind": kind, "shape": shape, "rows_per_cpu_s": figure}


LEAN = _result("Wattlog, lean transport", "ours", "64-packed", 2.1e6)
CEILING = _result("plain", "ceiling", "64-packed", 4e6)
PEERS = [_result("Quix Streams", "peer", "1-flat", 35_000), _result("Bytewax", "peer", "1-flat", 100_000)]


def _verdict(verdicts: list[targets.Verdict], words: str) -> targets.Verdict:
    return next(v for v in verdicts if words in v.subject)


def test_targets_compare_with_the_ceiling_and_the_fastest_peer_of_the_same_run() -> None:
    verdicts = list(targets.of_speed([LEAN, CEILING, *PEERS]))
    assert _verdict(verdicts, "lean transport, 64 rows: rows").met
    share = _verdict(verdicts, "lean transport, 64 rows: share")
    assert (share.figure, share.met) == ("0.525", True)
    times = _verdict(verdicts, "times the fastest peer (Bytewax)")
    assert (times.figure, times.met) == ("21", True)


def test_a_missed_target_is_reported_as_missed() -> None:
    slow = _result("Wattlog, lean transport", "ours", "64-packed", 1e6)
    verdicts = list(targets.of_speed([slow, CEILING, *PEERS]))
    assert _verdict(verdicts, "64 rows: rows").met is False
    assert "**missed**" in report.targets_table(verdicts)


def test_a_target_without_a_measurement_is_not_met() -> None:
    verdicts = list(targets.of_speed([LEAN]))
    assert {v.met for v in verdicts if "share" in v.subject or "peer" in v.subject} == {None}


def test_the_slowest_query_with_the_same_target_counts() -> None:
    questions = [
        {"name": "by tenant", "target_ms": 100, "p50_ms": 64.4}, {"name": "by day", "target_ms": 100, "p50_ms": 71.2},
        {"name": "explain", "target_ms": 300, "p50_ms": 301.0}, {"name": "a year", "target_ms": None, "p50_ms": 900.0},
    ]  # fmt: skip
    month, drill = targets.of_queries(questions)
    assert (month.figure, month.target, month.met) == ("71 ms", "100 ms", True)
    assert drill.met is False
    assert list(targets.of_queries([])) == []


def test_only_the_text_between_the_markers_is_replaced() -> None:
    page = "before\n<!-- bench:speed -->\nold\n<!-- /bench:speed -->\nafter\n"
    filled = report.filled(page, {"speed": r"new \1", "other": "nowhere"})
    assert filled == "before\n<!-- bench:speed -->\nnew \\1\n<!-- /bench:speed -->\nafter\n"


def test_the_page_has_a_place_for_every_table() -> None:
    page = report.PAGE.read_text("utf-8")
    for name in ("targets", "speed", "mix", "latency", "cardinality", "queries"):
        assert page.count(f"<!-- bench:{name} -->") == page.count(f"<!-- /bench:{name} -->") == 1


def test_the_picture_is_well_formed_and_names_every_contestant() -> None:
    drawn = picture.bars([LEAN, CEILING, *PEERS, _result("a <b> & c", "by hand", "1-flat", 9e5)])
    words = "".join(ET.fromstring(drawn).itertext())
    for name in ("lean transport", "plain", "Quix Streams", "Bytewax", "a <b> & c"):
        assert name in words


def test_memory_is_a_linear_fit_over_keys_and_windows() -> None:
    held = [
        {"kind": "GPU", "keys": k, "windows": w, "rows": k * w, "bytes": 300 * k + 60 * k * w}
        for k in (1_000, 4_000)
        for w in (2, 5)
    ]
    held.append({"kind": "request", "keys": 1, "windows": 1, "rows": 10, "bytes": 1_500})
    assert report.memory(held).startswith("Memory of open windows: 60 bytes a GPU and window, and 300 bytes a GPU once")


def test_arguments_before_the_options_select_parts() -> None:
    assert chosen(["speed", "--repeats", "3"]) == (["speed"], ["--repeats", "3"])
    assert chosen([]) == (parts(), [])
    assert chosen(["--quick", "--out", "x"])[0] == ["speed", "mix", "latency", "cardinality", "report"]
    assert for_report(["--quick", "--out", "x"]) == ["--out", "x"]
    with pytest.raises(SystemExit, match="no part 'sped'"):
        chosen(["sped"])


def test_the_report_is_the_last_part() -> None:
    assert parts()[-1] == "report"
