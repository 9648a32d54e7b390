"""Energy of Slurm's jobs: what counts, what is unknown, and what would count twice."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import BadInput, Unavailable
from contracts.events import MAX_SPAN_MS
from contracts.node_lists import expand_nodes
from producers.meters.sacct import source as sacct_source_module
from producers.meters.sacct.job_records import JobRun, counts_twice, join_steps, parse_line
from producers.meters.sacct.neighbours import Neighbours
from producers.meters.sacct.source import SacctSource
from tests.producers.conformance import poll, quantity
from tests.producers.meters.sacct.records import ACCOUNTING, NOW, T0, J, accounting, collect, jobs, line, rows
from tests.support.clocks import FakeClock


def test_each_run_that_ended_is_a_row_also_where_one_number_has_several() -> None:
    source = SacctSource("sacct", "c", lambda since_s: ACCOUNTING, lambda run: run.account)
    result = collect(source)
    assert {row["event_id"].removeprefix("east/"): int(row["uj"]) // J for row in rows(result)} == {
        "100/1700000000": 7_200_000, "101/1700003600": 60_000, "102/1700003600": 3_600_000,
        "102/1700010000": 3_700_000, "106/1700004000": 1_000_000, "107/1700005000": 1_100_000,
        "108/1700004000": 1_200_000, "109/1700004000": 300_000,
    }  # fmt: skip
    assert result.skipped == {"energy": 2, "shared": 2}
    assert not result.refused
    first = rows(result)[0]
    assert (first["workload"], first["tenant"], first["meter"]) == ("slurm/gpu", "acme", "job_energy_uj")
    assert (first["t0_ms"], first["t1_ms"]) == (1_700_000_000_000, 1_700_003_600_000)
    assert first["dimensions"] == {
        "job": "100", "user": "alice", "partition": "gpu", "nodes": "2", "state": "COMPLETED",
        "node_list": "gpu[01-02]",
    }  # fmt: skip
    assert {row["dimensions"]["state"] for row in rows(result)} == {
        "COMPLETED", "CANCELLED", "REQUEUED", "TIMEOUT", "FAILED",
    }  # fmt: skip
    assert {"105_1", "105_2", "108+0", "108+1"} <= {row["dimensions"]["job"] for row in rows(result)}


@pytest.mark.parametrize(
    "energy", ["", "0", 2**32 - 2, 2**32 - 1, 2**64 - 2, 2**64 - 1, 2**64], ids=lambda value: f"energy {value}"
)
def test_an_energy_that_is_none_is_unknown_and_counts_when_it_appears(energy: object) -> None:
    result = collect(accounting(line(energy=energy)))
    assert (rows(result), result.skipped, result.refused) == ([], {"energy": 1}, [])
    again = collect(accounting(line(energy=energy)), result.checkpoint)
    assert (rows(again), again.skipped, again.notes) == ([], {}, [])
    assert jobs(collect(accounting(line(energy=500)), again.checkpoint)) == [f"1/{T0}"]


@pytest.mark.parametrize("energy", ["-5", "1.5", "1.5M", "x", "1e9"])
def test_an_energy_that_is_no_whole_number_refuses_its_line_once(energy: str) -> None:
    result = collect(accounting(line(1, energy=energy), line(2, NodeList="n2")))
    assert jobs(result) == [f"2/{T0}"]
    assert "ConsumedEnergyRaw" in result.refused[0]
    assert not collect(accounting(line(1, energy=energy)), result.checkpoint).refused


def test_steps_are_not_added_to_the_line_of_their_job() -> None:
    lines = [line(7, energy=900), *(line(f"7.{step}", energy=900) for step in ("batch", "extern", "0", "1"))]
    assert [row["uj"] for row in rows(collect(accounting(*lines)))] == [str(900 * J)]


@pytest.mark.parametrize(
    ("steps", "twice"),
    [
        ([], False),
        ([("batch", 0, 100)], False),
        ([("0", 0, 50), ("1", 50, 100)], False),
        ([("batch", 0, 100), ("0", 5, 95)], True),
        ([("batch", 0, 100), ("extern", 0, 100), ("0", 5, 95)], False),
        ([("0", 0, 60), ("1", 50, 100)], True),
    ],
    ids=str,
)
def test_a_line_that_adds_steps_of_one_time_is_refused(steps: list[tuple[str, int, int]], twice: bool) -> None:
    lines = [line(7, T0, T0 + 100), *(line(f"7.{name}", T0 + a, T0 + b) for name, a, b in steps)]
    (run,) = join_steps(map(parse_line, lines))
    assert counts_twice(run) is twice
    result = collect(accounting(*lines))
    assert (len(rows(result)), any("PrologFlags=Contain" in text for text in result.refused)) == (int(not twice), twice)


def test_steps_belong_to_the_run_before_them() -> None:
    runs = list(join_steps(map(parse_line, [line(7), line("7.batch"), line(7, T0 + 5_000), line("7.0"), line("9.0")])))
    assert [(run.number, run.start_s, [step.name for step in run.steps]) for run in runs] == [
        ("7", T0, ["batch"]), ("7", T0 + 5_000, ["0"]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("other", "counts"),
    [
        (line(2, T0 + 999, T0 + 2_000), False),
        (line(2, T0 + 1_000, T0 + 2_000), True),
        (line(2, T0 + 500, "Unknown", "", State="RUNNING"), False),
        (line(2, T0 + 500, T0 + 600, 0), False),
        (line(2, T0 + 500, T0 + 600, NodeList="n[2-5]", NNodes="4"), True),
        (line(2, T0 + 500, T0 + 600, NodeList="m,n[0-1]", NNodes="3"), False),
        (line(2, "Unknown", "Unknown", "", State="PENDING", NodeList="None assigned"), True),
        (line(2, "None", T0 + 500, "", State="CANCELLED by 7", NodeList="None assigned"), True),
        (line(2, T0 + 500, T0 + 600, NodeList="n[1"), False),
    ],
    ids=[
        "overlaps", "follows", "runs", "has no energy", "elsewhere", "on one of several", "waits", "never began",
        "on unknown nodes",
    ],
)  # fmt: skip
def test_a_job_counts_if_no_other_was_on_its_node(other: str, counts: bool) -> None:
    assert (f"1/{T0}" in jobs(collect(accounting(line(1), other)))) is counts


def test_jobs_of_an_exclusive_partition_count_beside_others() -> None:
    source = accounting(line(1), line(2, T0 + 10, T0 + 20), exclusive=frozenset({"gpu"}))
    assert len(jobs(collect(source))) == 2


def test_a_job_that_began_before_the_accounting_that_is_read_is_left_out() -> None:
    source = accounting(line(1), line(2, T0 + 2_000, T0 + 3_000), look_back_s=19_000)
    result = collect(source)
    assert (jobs(result), result.skipped) == ([f"2/{T0 + 2_000}"], {"neighbours": 1})
    assert "look_back_h" in result.notes[0]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10), st.sampled_from(["a", "b", "a,b"])), max_size=12))
def test_neighbours_are_those_of_a_comparison_of_all_pairs(spans: list[tuple[int, int, str]]) -> None:
    runs = [
        parse_line(line(n, T0 + start, T0 + start + length, NodeList=nodes))
        for n, (start, length, nodes) in enumerate(spans, 1)
    ]

    def meet(a: JobRun, b: JobRun) -> bool:
        assert a.start_s and a.end_s and b.start_s and b.end_s
        return bool({*a.nodes.split(",")} & {*b.nodes.split(",")}) and a.start_s < b.end_s and b.start_s < a.end_s

    neighbours = Neighbours(runs, T0)
    for run in runs:
        assert neighbours.shared(run) is any(meet(run, other) for other in runs if other is not run)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("n1", {"n1"}),
        ("gpu[01-03,7],login1", {"gpu01", "gpu02", "gpu03", "gpu7", "login1"}),
        ("r[1-2]n[08-10]", {"r1n08", "r1n09", "r1n10", "r2n08", "r2n09", "r2n10"}),
        ("n[1-2]-ib", {"n1-ib", "n2-ib"}),
        *(
            (bad, None)
            for bad in ("n[1", "n1]", "n[]", "n[2-1]", "n[a]", "", "a,,b", "n[0-999999]", "n[0-999]m[0-999]")
        ),
    ],
)
def test_a_list_of_nodes_is_expanded_or_unknown(text: str, names: set[str] | None) -> None:
    assert expand_nodes(text) == (None if names is None else frozenset(names))


def test_an_energy_that_no_node_can_have_used_is_refused() -> None:
    result = collect(accounting(line(1, energy=20_000 * 1_060), line(2, energy=20_000 * 1_060 + 1, NodeList="n2")))
    assert jobs(result) == [f"1/{T0}"]
    assert "max_node_w" in result.refused[0]


def test_a_run_of_weeks_is_one_row_that_counts_at_its_end() -> None:
    weeks = 21 * 86_400
    source = accounting(line(1, T0 - weeks, T0, 10**9), exclusive=frozenset({"gpu"}))
    (row,) = rows(collect(source))
    assert row["t1_ms"] - row["t0_ms"] == weeks * 1000 > MAX_SPAN_MS


@pytest.mark.parametrize(
    ("start", "end", "state"),
    [
        (T0, "Unknown", "RUNNING"), (T0, NOW, "COMPLETED"), (T0, NOW + 50, "COMPLETED"), ("None", T0, "CANCELLED"),
        (T0 + 5, T0, "COMPLETED"), (T0, T0 + 1_000, "COMPLETING"),
    ],
)  # fmt: skip
def test_a_run_that_has_not_ended_for_a_while_waits(start: object, end: object, state: str) -> None:
    result = collect(accounting(line(1, start, end, State=state)))
    assert (rows(result), result.skipped, result.refused) == ([], {}, [])


def test_local_times_are_refused_with_the_way_out() -> None:
    result = collect(accounting(line(1, end="2023-11-14T22:13:20")))
    assert "SLURM_TIME_FORMAT=%s" in result.refused[0]


@pytest.mark.parametrize("cells", [{"Account": "__idle__"}, {"User": "x" * 300}, {"Partition": "p" * 300}])
def test_a_run_whose_names_the_log_refuses_is_left_out_alone(cells: dict[str, str]) -> None:
    result = collect(accounting(line(1, **cells), line(2, NodeList="n2")))
    assert (jobs(result), len(result.refused)) == ([f"2/{T0}"], 1)


def test_a_run_is_sent_once_however_often_it_is_read_and_late_ones_are_sent_when_they_appear() -> None:
    """Reads of random subsets, as an accounting that is late or answers in part; the producer is killed twice."""
    lines = [line(n, T0 + n, T0 + n + 1, NodeList=f"n{n}") for n in range(40)]
    rng, checkpoint, sent = random.Random(5), None, list[str]()
    for step in range(60):
        result = collect(accounting(*rng.sample(lines, 20)), checkpoint, NOW + 600 * step)
        sent += jobs(result)
        checkpoint = result.checkpoint
    assert sorted(sent) == sorted(f"{n}/{T0 + n}" for n in range(40))


def test_a_checkpoint_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sacct_source_module, "MAX_REMEMBERED", 10)
    checkpoint = None
    for step in range(5):
        lines = [line(n, NodeList=f"n{n}") for n in range(10 * step, 10 * step + 10)]
        checkpoint = collect(accounting(*lines), checkpoint, NOW + step).checkpoint
    assert jobs(collect(accounting(*lines), checkpoint, NOW + 6)) == []
    assert len(checkpoint or b"") < 300


def test_output_without_bounds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sacct_source_module, "MAX_LINES", 10)
    with pytest.raises(Unavailable, match="look_back_h"):
        collect(accounting(*(line(n) for n in range(20))))


def test_the_poll_loop_sends_each_run_once_over_kills_and_a_command_that_fails(tmp_path: Path) -> None:
    reads = 0

    def read(since_s: int) -> bytes:
        nonlocal reads
        reads += 1
        if reads % 3 == 2:
            raise Unavailable("sacct ends with status 1", "")
        return ACCOUNTING

    source = SacctSource("sacct", "c", read, lambda run: run.account)
    clock = FakeClock(6 * 600_000, epoch_ms=NOW * 1000)
    log, _ = poll([source], tmp_path, clock)
    assert reads >= 4
    assert quantity(log, "job_energy_uj") == 18_160_000 * J


def test_a_line_needs_all_fields() -> None:
    with pytest.raises(BadInput, match="3 cells instead of 12"):
        parse_line("a|b|c")
