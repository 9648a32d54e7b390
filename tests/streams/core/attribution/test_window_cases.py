"""Placement of energy and work: windows are half-open, 10 s long, and cut spans exactly."""

from __future__ import annotations

from tests.streams.core.case_table import play, spec


def test_a_boundary_within_an_interval_cuts_its_energy_by_time():
    spec("""
        power w g0 H100  4..14  10J
        =
        0   w H100 __idle__ -  idle 6J
        10  w H100 __idle__ -  idle 4J
        """)


def test_an_indivisible_amount_is_cut_by_floors_of_the_running_total_and_sums_to_the_whole():
    spec("""
        power w g0 H100  5..35  10uJ
        =
        0   w H100 __idle__ -  idle 1uJ
        10  w H100 __idle__ -  idle 4uJ
        20  w H100 __idle__ -  idle 3uJ
        30  w H100 __idle__ -  idle 2uJ
        """)


def test_an_interval_that_ends_on_a_boundary_leaves_nothing_after_it():
    spec("""
        power w g0 H100  0..10  10J
        =
        0  w H100 __idle__ -  idle 10J
        """)


def test_a_boundary_within_prefill_cuts_only_the_prompt():
    spec("""
        tokens w acme m r1  6/16..20  100+40
        =
        0   w - acme m  tokens 40/0/0   work 40000
        10  w - acme m  tokens 60/0/40  work 180000  requests 1
        """)


def test_a_boundary_within_decode_cuts_only_the_completion():
    spec("""
        tokens w acme m r1  2/8..18  100+40
        =
        0   w - acme m  tokens 100/0/8  work 124000
        10  w - acme m  tokens 0/0/32   work 96000   requests 1
        """)


def test_with_an_unknown_first_token_both_kinds_of_work_spread_over_the_whole_request():
    spec("""
        tokens w acme m r1  5..15  100-50+40
        =
        0   w - acme m  tokens 50/25/20  work 85000
        10  w - acme m  tokens 50/25/20  work 85000  requests 1
        """)


def test_a_request_that_ends_exactly_on_a_boundary_counts_in_the_window_before_it():
    spec("""
        tokens w acme m r1  0/5..10  100+40
        =
        0  w - acme m  tokens 100/0/40  requests 1
        """)


def test_a_request_without_duration_is_in_the_window_of_its_instant():
    spec("""
        tokens w acme m r1  10..10  100+40
        =
        10  w - acme m  tokens 100/0/40  requests 1
        """)


def test_work_of_less_than_a_token_is_charged_where_it_ran():
    """One token over three windows: the token is counted in the last, its work and so its joules in each."""
    spec("""
        power  w g0 H100  0..30  3J
        tokens w acme m r1  0/0..30  0+1
        =
        0   w H100 acme m  active 1J  tokens 0/0/0  work 999
        10  w H100 acme m  active 1J  tokens 0/0/0  work 999
        20  w H100 acme m  active 1J  tokens 0/0/1  work 1002  requests 1
        """)


def test_a_request_without_tokens_is_charged_in_every_window_that_it_ran_in():
    spec("""
        power  w g0 H100  0..30  3J
        tokens w acme m r1  2..12  0+0
        =
        0   w H100 acme m      active 1J  work 8000
        10  w H100 acme m      active 1J  work 2000  requests 1
        20  w H100 __idle__ -  idle 1J
        """)


def test_the_energy_of_a_gpu_is_kept_per_window_with_its_covered_time():
    run = play("""
        power w g0 H100  0..4   4J
        power w g0 H100  7..12  5J
    """)
    rows = {r["window_start"] % 3_600_000 // 1000: r for r in run.worker.store.live("gpu_energy")}
    assert {at: (r["energy_uj"], r["covered_ms"]) for at, r in rows.items()} == {
        0: (7_000_000, 7_000),
        10: (2_000_000, 2_000),
    }


def test_a_gap_shows_as_uncovered_time():
    run = play("power w g0 H100  0..4  4J")
    [row] = run.worker.store.live("gpu_energy")
    assert row["covered_ms"] == 4_000


def test_utilisation_is_unknown_if_any_interval_lacks_it():
    busy = lambda lines: [r["busy_ms"] for r in play(lines).worker.store.live("gpu_energy")]  # noqa: E731
    assert busy("power w g0 H100  0..4  4J  busy=1") == [1_000]
    assert busy("power w g0 H100  0..4  4J  busy=1\n power w g0 H100  4..8  4J  busy=2") == [3_000]
    assert busy("power w g0 H100  0..4  4J  busy=1\n power w g0 H100  4..8  4J") == [-1]
