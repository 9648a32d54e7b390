"""Messages of a partition: bad events, duplicates, sequence and offset gaps; and the offsets to commit."""

from __future__ import annotations

import numpy as np
import pytest

from contracts import codec, topics
from contracts.errors import LedgerError
from contracts.events import Event, UsageBatch
from streams.core import topic_progress, windows
from streams.core.attribution.policy import Policy
from streams.core.checkpoint import GROWTH_MS, Checkpoint
from streams.core.decoding import MAX_PIECES, PartitionConfig, PriorVerdicts, decode_messages
from streams.core.partition import Partition
from tests.streams.core.case_table import T0, ms, play, spec
from tests.support.oracle import Interval, Request
from tests.support.partition_log import Log, Worker, power, tokens

NOW = ms("100")


def interval(t0="0", t1="10", energy_uj=1, gpu="g0") -> Interval:
    return Interval(
        cluster="c", workload="w", node="n", gpu=gpu, hardware="H100", t0=ms(t0), t1=ms(t1), energy_uj=energy_uj
    )


def partition(**config) -> Partition:
    return Partition("log", 0, PartitionConfig(**config), Policy())


def usage() -> UsageBatch:
    times = np.array([T0], np.int64)
    return UsageBatch(meter=("calls",), unit=("1",), tenant=("acme",), quantity=("1",), t0_ms=times, t1_ms=times)


# -- bad events -------------------------------------------------------------------------------------------------------


def test_an_event_within_the_skew_of_the_future_is_accepted():
    log = Log()
    log.append(power([interval("95", "105")]))
    assert partition(skew_ms=5_000).ingest(log.messages[topics.POWER], NOW) == []


def test_an_event_beyond_the_skew_is_rejected_with_the_reason():
    log = Log()
    log.append(power([interval("95", "105.001")]))
    [rejected] = partition(skew_ms=5_000).ingest(log.messages[topics.POWER], NOW)
    assert (rejected.error.field, rejected.error.value) == ("t_ms", ms("105.001"))
    assert "correct the clock" in str(rejected.error)


@pytest.mark.parametrize(
    "batch",
    [
        tokens(
            [
                Request(
                    cluster="c",
                    workload="w",
                    tenant="t",
                    model="m",
                    request_id="r",
                    start=T0,
                    first=0,
                    end=T0,
                    prompt=1,
                    cached=0,
                    completion=1,
                )
            ]
        ),
        usage(),
    ],
)
def test_a_batch_on_the_wrong_topic_is_rejected(batch):
    log, p = Log(), partition()
    headers, value = codec.encode(Event("s", 1, 0, "c", "w", batch))
    log.raw(topics.POWER, headers, value)
    [rejected] = p.ingest(log.messages[topics.POWER], NOW)
    assert rejected.error.field == "ce_type"


def test_an_undecodable_message_is_rejected_whole():
    log, p = Log(), partition()
    message = log.raw(topics.POWER, [("ce_type", b"wattlog.power.v9")], b"\xff")
    [rejected] = p.ingest([message], NOW)
    assert rejected.message is message


def test_an_event_in_too_many_windows_is_rejected():
    n, hours = 2_000, 6 * 3_600
    assert n * hours > MAX_PIECES
    log = Log()
    log.append(power([interval("0", str(hours), gpu="g0")] * n))
    [rejected] = partition(window_ms=1_000).ingest(log.messages[topics.POWER], ms("1000000"))
    assert rejected.error.field == "rows"


def test_distant_rows_count_only_their_own_windows():
    """A batch with a row of 1970 and one of today is in two windows, not in the millions between."""
    log, p = Log(), partition(window_ms=1_000, lateness_ms=0, skew_ms=0)
    log.append(power([interval()]))
    log.append(power([interval()._replace(t0=1_000, t1=2_000), interval("20", "21", energy_uj=5)]))
    log.append(tokens([], ms("15")))
    p.ingest([log.messages[topics.POWER][0], *log.messages[topics.TOKENS]], NOW)
    p.finals_stored(p.advance(ms("50")))
    p.ingest([log.messages[topics.POWER][1]], NOW)
    assert (p.counters().late, p.counters().open_windows) == (1, 1)


def test_later_messages_are_processed_after_a_bad_event():
    run = play("power w g0 H100  0..10  100J\n -- read")
    run.log.raw(topics.POWER, [], b"?")
    run.line("power w g1 H100  10..20  100J")
    run.read()
    assert [r.error.field for r in run.worker.rejected] == ["ce_type"]
    assert run.worker.partition.counters().rejected == 1
    assert run.worker.partition.counters().open_windows == 2


def test_a_rejected_event_blocks_commits_until_it_is_published():
    log, p = Log(), partition()
    log.raw(topics.POWER, [], b"?")
    rejected = p.ingest(log.messages[topics.POWER], NOW)
    assert p.progress.checkpoint_if_moved() is None
    assert p.progress.checkpoint_offsets() == {}
    p.progress.dead_letters_published({(r.message.topic, r.message.offset) for r in rejected})
    assert p.progress.checkpoint_if_moved() is not None
    assert p.progress.checkpoint_offsets() == {topics.POWER: 1}


# -- duplicates and gaps -----------------------------------------------------------------------------------------------

SEVENTY = "0  w H100 __idle__ -  idle 70J"


def counted(run) -> dict[str, tuple[int, int, int]]:
    run.worker.partition.progress.checkpoint_if_moved()
    return {
        k[0]: (r["received"], r["last_seq"], r["duplicates"])
        for k, r in run.worker.store.sources.items()
        if "beat" not in k[1]
    }


@pytest.mark.parametrize(
    "lines",
    [
        "again",
        "again\n        again",
        "-- die\n        again",
        "beat 30\n        -- flush\n        again",
        "beat 200\n        -- flush\n        -- die\n        again",
    ],
    ids=["at once", "twice", "across a restart", "after a flush", "late and across a restart"],
)
def test_a_duplicate_changes_nothing(lines):
    spec(f"""
        power w g0 H100  0..10  70J
        {lines}
        beat 400
        -- flush
        =
        {SEVENTY}
        """)


def test_duplicates_are_counted_and_make_no_gap():
    run = play("power w g0 H100  0..10  70J\n again\n again\n beat 400\n -- flush")
    assert counted(run) == {topics.POWER: (1, 0, 2)}
    assert run.worker.partition.counters().duplicates == 2


def test_a_missing_sequence_number_is_counted_as_a_gap():
    run = play("power w g0 H100  0..10  70J\n power w g0 H100  10..20  70J seq=3\n beat 400\n -- flush")
    assert counted(run) == {topics.POWER: (2, 3, 0)}  # last_seq + 1 - received: two were lost.


def test_the_same_number_of_another_source_is_no_duplicate():
    spec("""
        power w g0 H100  0..10  30J  from=a
        power w g0 H100  0..10  40J  from=b
        beat 400
        -- flush
        =
        0  w H100 __idle__ -  idle 70J
        """)


def test_a_replay_of_old_events_is_recognised_long_after_newer_windows_are_final():
    """The run is active now, however old its events: it is not forgotten, and its duplicates stay duplicates."""
    old, week = "0..10", 8 * 86_400
    run = play(f"""
        power w g0 H100  {week}..{week + 10}  10J  from=new
        beat {week + 400}
        -- flush
        power w g0 H100  {old}  70J  from=old
        -- flush
        again
        power w g1 H100  {old}  5J  from=old seq=1
        -- flush
    """)
    assert sum(r["idle_uj"] for r in run.worker.store.live("ledger")) == 85_000_000
    [source] = [r for r in run.worker.store.sources.values() if r["source"].startswith("old")]
    assert (source["received"], source["last_seq"], source["duplicates"]) == (2, 1, 1)


def test_an_offset_gap_is_an_error():
    log, p = Log(), partition()
    for _ in range(3):
        log.append(power([interval()]))
    first, _, third = log.messages[topics.POWER]
    p.ingest([first], NOW)
    with pytest.raises(LedgerError, match=r"wattlog\.power\.v1 lost messages 1 to 1"):
        p.ingest([third], NOW)


def test_a_log_may_begin_at_any_offset():
    log, p = Log(), partition()
    for _ in range(3):
        log.append(power([interval()]))
    assert p.ingest(log.messages[topics.POWER][2:], NOW) == []
    assert p.counters().rows == 1


def test_stored_messages_are_skipped():
    run = play("power w g0 H100  0..10  70J\n beat 400\n -- flush")
    run.worker.partition.ingest(run.log.messages[topics.POWER], NOW)
    assert run.worker.partition.counters().rows == 1
    assert run.worker.partition.counters().duplicates == 0


# -- offsets to commit -------------------------------------------------------------------------------------------------


def committed(table: str) -> tuple[int, int]:
    run = play(table)
    return tuple(run.worker.committed[t] for t in topics.JOINED)


def test_an_offset_is_committed_when_all_its_windows_are_final_and_stored():
    lines = "power w g0 H100  0..30  30J\n beat {}\n -- flush"
    assert committed(lines.format(150)) == (0, 1)  # Windows up to 20 s are final; the interval reaches to 30 s.
    assert committed(lines.format(160)) == (2, 1)


def test_an_offset_waits_for_earlier_ones():
    assert committed("""
        power w g0 H100  0..50  30J
        power w g0 H100  0..10  30J
        beat 150
        -- flush
    """) == (0, 1)


def test_a_heartbeat_is_committed_without_a_store():
    assert committed("beat 10\n -- flush") == (1, 1)


def test_a_late_event_is_committed_after_it_is_restated():
    run = play("power w g0 H100  0..10  30J\n beat 200\n -- flush\n power w g0 H100  0..10  30J")
    run.read()
    p = run.worker.partition
    flush = p.advance(0)
    assert p.progress.checkpoint_if_moved() is None
    assert p.progress.checkpoint_offsets()[topics.POWER] == 2
    p.late_stored(flush)
    assert p.progress.checkpoint_offsets()[topics.POWER] == 3


def test_nothing_is_committed_between_a_flush_and_its_store():
    run = play("power w g0 H100  0..10  30J\n beat 200\n -- read")
    p = run.worker.partition
    flush = p.advance(0)
    assert p.progress.checkpoint_if_moved() is not None  # The heartbeat's.
    assert topics.POWER not in p.progress.checkpoint_offsets()
    p.finals_stored(flush)
    assert p.progress.checkpoint_offsets() == {topics.POWER: 2, topics.TOKENS: 1}


# -- bounds -----------------------------------------------------------------------------------------------------------


def test_held_rows_are_counted_and_released():
    run = play("power w g0 H100  0..10  30J\n tokens w acme m r1  0/1..9  10+0\n -- read")
    assert run.worker.partition.open_rows > 3
    run.line("beat 200")
    run.line("-- flush")
    assert run.worker.partition.open_rows == 0


def test_unstored_late_facts_are_counted():
    run = play("power w g0 H100  0..10  30J\n beat 200\n -- flush\n power w g0 H100  0..10  30J")
    assert run.worker.partition.open_rows == 0
    run.read()
    assert run.worker.partition.open_rows == 2  # The fact, and its message.


def test_forgetting_unused_entities_changes_nothing(monkeypatch):
    lines = "\n".join(
        f"power w g{i} H100  {t}..{t + 15}  15J\n tokens w t{i} m r{i}  {t}..{t + 15}  10+{i}\n"
        f" beat {t + 130}\n -- flush"
        for i, t in enumerate(range(0, 120, 10))
    )
    store = play(lines + "\n beat 1000\n -- flush").worker.store
    monkeypatch.setattr(windows.OpenWindows, "COMPACT_ABOVE", 2)
    run = play(lines)
    assert len(run.worker.partition.windows._energy.keys) <= 3
    run.line("beat 1000")
    run.line("-- flush")
    assert run.worker.store.ledger() == store.ledger()
    assert run.worker.store.live("request_energy") == store.live("request_energy")


def test_a_dictionary_too_large_to_intern_whole_changes_nothing(monkeypatch):
    many = [
        Request(
            cluster="c",
            workload="w",
            tenant=f"t{i}",
            model=f"m{i % 7}",
            request_id=f"r{i}",
            start=T0,
            first=0,
            end=T0 + 5_000,
            prompt=1 + i,
            cached=0,
            completion=i,
        )
        for i in range(40)
    ]
    log = Log()
    log.append(tokens(many))
    log.append(tokens([], ms("400")), source="beat")
    log.append(power([], ms("400")), source="beat")
    ledger = Worker(log).run().ledger()
    monkeypatch.setattr(windows.OpenWindows, "GRID_MAX", 1)
    worker = Worker(log)
    worker.read(topics.TOKENS, 1)
    assert len(worker.partition.windows._tokens.keys) == 40  # Not 40 times 7.
    assert worker.run().ledger() == ledger


def test_the_dictionary_cache_is_bounded(monkeypatch):
    monkeypatch.setattr(windows.OpenWindows, "CACHE_MAX", 2)
    run = play("\n".join(f"power w g{i} H100  0..10  1J" for i in range(9)))
    assert sum(r["idle_uj"] for r in run.worker.store.live("ledger")) == 9_000_000
    assert len(run.worker.partition.windows._cache) <= 2


# -- another partition, another producer ------------------------------------------------------------------------------


def test_an_event_on_another_partition_than_its_workloads_is_rejected_and_names_the_right_one():
    log = Log()
    log.append(power([interval()]))
    config = {
        "partition_of": lambda count, *place: 3 if (count, *place) == (8, "c", "w") else 0,
        "partition_counts": (8,),
    }
    [rejected] = partition(**config).ingest(log.messages[topics.POWER], NOW)
    assert (rejected.error.field, rejected.error.value) == ("partition", 0)
    assert "c/w belongs on partition 3" in str(rejected.error)


def test_an_event_may_lie_where_it_belonged_before_partitions_were_added():
    log = Log()
    log.append(power([interval()]))
    config = {"partition_of": lambda count, *_: 3 if count == 8 else 0, "partition_counts": (8, 4)}
    assert partition(**config).ingest(log.messages[topics.POWER], NOW) == []


def test_numbers_of_partitions_of_before_are_remembered_for_a_day():
    checkpoint = Checkpoint()
    assert checkpoint.partition_counts(4, 0) == (4,)
    assert checkpoint.partition_counts(6, 1_000) == (6, 4)
    [row] = [dict(zip(table, (v[0] for v in table.values()), strict=True)) for table in [checkpoint.row("log", 0, 1)]]
    again = Checkpoint.load(row)
    assert again.partition_counts(8, GROWTH_MS) == (8, 4, 6)
    assert again.partition_counts(8, 1_000 + GROWTH_MS) == (8, 6)
    assert again.partition_counts(8, 2 * GROWTH_MS) == (8,)


def test_a_number_that_another_message_had_is_a_dead_letter_and_not_a_duplicate():
    """A forged message claims the number of a genuine one: the genuine one is not dropped without a word."""
    log = Log()
    log.append(power([interval(energy_uj=0)]))
    log.append(power([interval(energy_uj=5_000)]))
    first, second = log.messages[topics.POWER]
    [rejected] = partition().ingest([first, second._replace(headers=first.headers)], NOW)
    assert (rejected.error.field, rejected.message.offset) == ("seq", second.offset)
    assert "a source and credentials of its own" in str(rejected.error)


def test_a_copy_of_a_message_is_a_duplicate_also_where_its_digest_is_forgotten(monkeypatch):
    monkeypatch.setattr(topic_progress, "MAX_DIGESTS", 2)
    log, state = Log(), partition()
    for n in range(5):
        log.append(power([interval(energy_uj=n)]))
    messages = log.messages[topics.POWER]
    copies = [m._replace(offset=5 + n) for n, m in enumerate(messages)]
    assert state.ingest([*messages, *copies], NOW) == []
    assert state.counters().duplicates == 5


def test_a_message_that_an_earlier_owner_took_in_is_not_judged_by_its_partition_again():
    """Partitions were added since it was read: its window has its rows."""
    log = Log()
    log.append(power([interval()]))
    config = PartitionConfig(partition_of=lambda *_: 7, partition_counts=(8,))
    earlier = PriorVerdicts(1, frozenset())
    [event] = decode_messages(log.messages[topics.POWER], NOW, config, earlier).events
    assert isinstance(event, Event)
