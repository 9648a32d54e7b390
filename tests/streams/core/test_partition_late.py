"""A window becomes final once. Each later fact is late, and restated exactly once through deaths of workers."""

from __future__ import annotations

import pytest

from contracts import topics
from streams.core.decoding import PartitionConfig
from streams.core.restatement import restate
from tests.streams.core.case_table import T0, balanced, play, spec
from tests.support.partition_log import policy

ON_TIME = """
        power  w g0 H100  0..10  100J
        tokens w acme m r1  0/1..9  10+0
        beat 200
        -- flush
"""


def test_a_late_request_is_restated_with_the_next_revision():
    spec(
        ON_TIME
        + """
        tokens w globex m r2  1/2..8  10+0
        beat 210
        -- flush
        =
        0  w H100 acme   m  active 50J  tokens 10/0/0  requests 1  revision 1  final 1
        0  w H100 globex m  active 50J  tokens 10/0/0  requests 1  revision 1  final 1
        """
    )


def test_late_energy_is_restated_with_the_next_revision():
    spec(
        ON_TIME
        + """
        power w g1 H100  2..8  60J
        beat 210
        -- flush
        =
        0  w H100 acme m  active 160J  tokens 10/0/0  requests 1  revision 1
        """
    )


def test_a_second_late_event_makes_revision_two():
    spec(
        ON_TIME
        + """
        power w g1 H100  2..8  60J
        beat 210
        -- flush
        power w g2 H100  2..8  40J
        beat 220
        -- flush
        =
        0  w H100 acme m  active 200J  tokens 10/0/0  requests 1  revision 2
        """
    )


def test_two_late_messages_in_one_flush_are_two_revisions_at_once():
    spec(
        ON_TIME
        + """
        power w g1 H100  2..8  60J
        power w g2 H100  2..8  40J
        -- flush
        =
        0  w H100 acme m  active 200J  tokens 10/0/0  requests 1  revision 2
        """
    )


def test_a_window_without_late_events_has_revision_zero():
    spec(
        ON_TIME
        + """
        =
        0  w H100 acme m  active 100J  tokens 10/0/0  requests 1  revision 0  final 1
        """
    )


def test_a_late_event_of_an_empty_window_is_a_row_of_revision_one():
    spec("""
        power w g0 H100  20..30  100J
        beat 200
        -- flush
        power w g0 H100  0..10  60J
        -- flush
        =
        0   w H100 __idle__ -  idle 60J   revision 1
        20  w H100 __idle__ -  idle 100J  revision 0
        """)


def test_an_event_that_is_late_in_part_restates_only_that_part():
    spec("""
        power w g0 H100  0..10  100J
        beat 140
        -- flush
        power w g1 H100  5..25  200J
        beat 300
        -- flush
        =
        0   w H100 __idle__ -  idle 150J  revision 1
        10  w H100 __idle__ -  idle 100J  revision 0
        20  w H100 __idle__ -  idle 50J   revision 0
        """)


def test_late_tokens_turn_idle_energy_into_active_and_remove_the_idle_row():
    spec("""
        power  w g0 H100  0..10  100J
        beat 200
        -- flush
        tokens w acme m r1  0/1..9  10+0
        -- flush
        =
        0  w H100 acme m  active 100J  tokens 10/0/0  requests 1  revision 1
        """)


def test_late_power_removes_the_unmetered_row():
    spec("""
        tokens w acme m r1  0/1..9  10+0
        beat 200
        -- flush
        power  w g0 H100  0..10  100J
        -- flush
        =
        0  w H100 acme m  active 100J  tokens 10/0/0  requests 1  revision 1  method counter
        """)


def test_late_facts_are_stored_beside_earlier_ones():
    run = play(
        ON_TIME
        + """
        power w g0 H100  2..8  60J
        -- flush
    """
    )
    facts = sorted((r["late_id"], r["energy_uj"]) for r in run.worker.store.live("gpu_energy"))
    assert facts == [(0, 100_000_000), (2 + 1, 60_000_000)]  # The message's offset, plus 1.


def test_a_late_duplicate_adds_nothing():
    spec(
        ON_TIME
        + """
        power w g1 H100  2..8  60J
        again
        -- flush
        again
        -- flush
        =
        0  w H100 acme m  active 160J  tokens 10/0/0  requests 1  revision 1
        """
    )


LATE = (
    ON_TIME
    + """
        tokens w globex m r2  1/2..8  10+0
        power  w g1 H100  2..8  60J
"""
)
RESTATED = """
        =
        0  w H100 acme   m  active 80J  tokens 10/0/0  requests 1  revision 2  final 1
        0  w H100 globex m  active 80J  tokens 10/0/0  requests 1  revision 2  final 1
"""


@pytest.mark.parametrize("step", range(8))
def test_a_restatement_killed_before_any_write_is_done_once_by_the_successor(step):
    spec(LATE + f"        -- die at {step}\n        -- flush" + RESTATED)


@pytest.mark.parametrize("first", range(8))
@pytest.mark.parametrize("second", range(8))
def test_a_restatement_killed_twice_is_still_done_once(first, second):
    spec(LATE + f"        -- die at {first}\n        -- die at {second}\n        -- flush" + RESTATED)


@pytest.mark.parametrize("step", range(7))
def test_a_final_flush_killed_before_any_write_is_written_whole_by_the_successor(step):
    spec(f"""
        power  w g0 H100  0..10  100J
        tokens w acme m r1  0/1..9  10+0
        beat 200
        -- die at {step}
        -- flush
        =
        0  w H100 acme m  active 100J  tokens 10/0/0  requests 1  revision 0  final 1
        """)


# -- provisional windows ----------------------------------------------------------------------------------------------


def test_a_provisional_row_shows_as_soon_as_its_window_has_ended():
    spec("""
        power  w g0 H100  0..10  100J
        tokens w acme m r1  0/1..9  10+0
        beat 10
        -- provisional
        =
        0  w H100 acme m  active 100J  tokens 10/0/0  requests 1  final 0  revision 0
        """)


def test_a_window_that_has_not_ended_shows_nothing():
    assert play("power w g0 H100  0..9  100J\n beat 9.999\n -- provisional").worker.store.live("ledger") == []


def test_a_provisional_row_is_revised_and_then_final():
    lines = """
        power  w g0 H100  0..10  100J
        tokens w acme m r1  0/1..9  10+0
        beat 10
        -- provisional
        tokens w globex m r2  0/1..9  10+0
        -- {}
        =
        0  w H100 acme   m  active 50J  tokens 10/0/0  requests 1  final {}
        0  w H100 globex m  active 50J  tokens 10/0/0  requests 1  final {}
        """
    spec(lines.format("provisional", 0, 0))
    spec(lines.format("flush", 1, 1).replace("-- flush", "beat 200\n        -- flush"))


def test_a_provisional_window_is_written_again_only_after_a_change():
    run = play("power w g0 H100  0..10  100J\n beat 10\n -- provisional")
    assert run.worker.partition.provisional(0) is None
    run.line("power w g1 H100  0..10  100J")
    run.read()
    assert run.worker.partition.provisional(0) is not None


def test_power_before_the_window_is_final_removes_the_provisional_unmetered_row():
    lines = """
        tokens w acme m r1  0/1..9  10+0
        beat 10
        -- provisional
        power  w g0 H100  0..10  100J
        beat {}
        -- {}
        =
        0  w H100 acme m  active 100J  tokens 10/0/0  requests 1  final {}  revision 0
        """
    spec(lines.format(10, "provisional", 0))
    spec(lines.format(200, "flush", 1))


def test_a_provisional_row_never_replaces_a_final_one_in_any_order_of_writes():
    run = play("power w g0 H100  0..10  100J\n beat 10\n -- read")
    old = run.worker.partition.provisional(0)
    run.line("beat 200")
    run.line("-- flush")
    run.worker.store.write("ledger", old)
    assert [r["final"] for r in run.worker.store.live("ledger")] == [1]


def test_a_row_that_only_a_dead_worker_wrote_is_removed():
    """It had read the tokens but not the power; its successor reads both before the window is shown again."""
    spec("""
        tokens w acme m r1  0/1..9  10+0
        beat 10
        -- provisional
        -- die
        power w g0 H100  0..10  100J
        beat 200
        -- flush
        =
        0  w H100 acme m  active 100J  tokens 10/0/0  requests 1  final 1
        """)


def test_a_worker_that_lost_its_partition_never_replaces_rows_of_its_successor():
    """The zombie closed the window without the second request, was stopped, and writes when it continues."""
    run = play("power w g0 H100  0..10  100J\n tokens w acme m r1  0/1..9  10+0\n beat 200\n -- read")
    zombie = run.worker.partition
    asleep = zombie.advance(0)
    run.line("-- die")
    run.line("-- flush")
    run.line("tokens w globex m r2  0/1..9  10+0")
    run.line("-- flush")
    before = {name: list(run.worker.store.live(name)) for name in asleep.tables}
    for name, table in asleep.tables.items():
        run.worker.store.write(name, table)
    run.worker.store.write("marks", zombie.finals_stored(asleep))
    assert {name: list(run.worker.store.live(name)) for name in asleep.tables} == before
    assert run.worker.store.mark().epoch == run.worker.epoch


def test_a_repeated_restatement_changes_nothing():
    run = play(LATE + "        -- flush\n")
    before = run.worker.store.ledger()
    again = restate(run.worker.store.facts([(T0, "c", "w")]), policy(), run.worker.epoch, log_id="log", log_partition=0)
    for name, table in again.items():
        run.worker.store.write(name, table)
    assert run.worker.store.ledger() == before
    balanced(run)


def test_with_no_lateness_a_window_is_final_at_its_end():
    spec("""
        power w g0 H100  0..10  100J
        beat 10
        -- flush
        =
        0  w H100 __idle__ -  idle 100J  final 1
        """, config=PartitionConfig(lateness_ms=0, skew_ms=0))  # fmt: skip


def test_uncommitted_messages_of_a_dead_worker_are_read_again_and_are_not_late():
    run = play("power w g0 H100  0..10  100J\n power w g0 H100  5..135  130J\n beat 140\n -- read")
    run.line("-- flush")
    assert run.worker.partition.counters().late == 0
    for _ in range(3):
        run.line("-- die")
        run.line("-- flush")
        assert run.worker.partition.counters().late == 0
    run.line("beat 400")
    run.line("-- flush")
    assert sum(r["idle_uj"] for r in run.worker.store.live("ledger")) == 230_000_000


def test_an_event_read_again_after_a_death_adds_only_to_its_open_windows():
    """Its first window was closed with it, after an earlier one was closed without it."""
    spec("""
        power w g0 H100   0..10  10J
        beat 135
        -- flush
        power w g1 H100  10..30  20J
        beat 145
        -- flush
        -- die
        beat 400
        -- flush
        =
        0   w H100 __idle__ -  idle 10J  revision 0
        10  w H100 __idle__ -  idle 10J  revision 0
        20  w H100 __idle__ -  idle 10J  revision 0
        """)


def test_rows_that_a_dead_worker_stored_in_part_are_removed_even_from_a_window_without_rows():
    """It died before its checkpoint. Its successor closes a later window first, so the same request is late now."""
    run = play("tokens w acme m r1  0/1..9  10+0\n power w g0 H100  10..20  10J\n beat 300\n -- die at 4")
    now = T0 + 400_000
    run.worker.read(topics.POWER, 9, now)
    assert run.worker.flush(now)  # The tokens are silent.
    run.worker.read(topics.TOKENS, 9, now)
    assert run.worker.flush(now)
    assert [(r["late_id"], r["prompt_tokens"]) for r in run.worker.store.live("token_usage")] == [(1, 10)]
    rows = {(r["window_start"] - T0, r["tenant"]): r["revision"] for r in run.worker.store.live("ledger")}
    assert rows == {(0, "acme"): 1, (10_000, "__idle__"): 0}
    balanced(run)
