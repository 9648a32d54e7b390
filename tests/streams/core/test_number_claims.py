"""Numbers of a source that more than one message claims: nothing is dropped without a word, and notices are bounded."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import codec, topics
from contracts.events import Event
from contracts.number_claims import read_claim
from producers.runtime.event_sequence import heartbeat_batch
from streams.core import number_claims, sequence
from streams.core.number_claims import EVERY_MS, NumberClaims
from streams.core.partition import Partition
from streams.core.sequence import ContestedNumbers, SequenceRun
from tests.support.clocks import T0
from tests.support.oracle import Interval
from tests.support.partition_log import NEVER as NOW
from tests.support.partition_log import Log, Worker, power

SOURCE = "nvml://c/n/w"


def event(seq: int, *, epoch: int = 7, energy_uj: int = 1, source: str = SOURCE) -> Event:
    return Event(
        source,
        epoch,
        seq,
        "c",
        "w",
        power(
            [
                Interval(
                    cluster="c",
                    workload="w",
                    node="n",
                    gpu="g0",
                    hardware="H100",
                    t0=T0,
                    t1=T0 + 10_000,
                    energy_uj=energy_uj,
                )
            ]
        ),
    )


def claims_of(partition: Partition) -> list[tuple[str, int, int, bool]]:
    return [(c.source, c.epoch, c.seq, c.compared) for c in partition.claims.take(NOW)]


def log_of(*events: Event) -> Log:
    log = Log()
    for one in events:
        append(log, one)
    return log


def append(log: Log, one: Event) -> None:
    log.raw(codec.topic_of(one.batch), *codec.encode(one))


def test_a_source_whose_number_another_took_is_in_a_notice():
    worker = Worker(log_of(event(0, energy_uj=1), event(0, energy_uj=2), event(1)))
    worker.run()
    assert [r.error.field for r in worker.rejected] == ["seq"]
    assert claims_of(worker.partition) == [(SOURCE, 7, 0, True)]


def test_copies_of_remembered_messages_are_in_no_notice():
    worker = Worker(log_of(event(0), event(0), event(1), event(1)))
    worker.run()
    assert claims_of(worker.partition) == []


def test_a_copy_after_a_restart_is_a_duplicate_and_its_producer_gets_a_notice():
    """The worker cannot compare it any more: only the producer knows whether it sent it twice."""
    log = log_of(event(0))
    worker = Worker(log)
    worker.run()
    append(log, event(0, energy_uj=9))
    worker.start()
    worker.run()
    assert worker.rejected == []
    assert claims_of(worker.partition) == [(SOURCE, 7, 0, False)]


def test_the_rows_of_sources_say_which_numbers_and_times_were_taken_also_after_a_restart():
    log = log_of(*(event(n, energy_uj=1) for n in range(5)), *(event(n, energy_uj=2) for n in (1, 3)))
    worker = Worker(log)
    worker.run()
    append(log, event(5))
    worker.start()
    store = worker.run()
    [row] = store.sources.values()
    assert (row["contested"], row["contested_first_seq"], row["contested_last_seq"]) == (2, 1, 3)
    assert row["contested_first"] == row["contested_last"] > 0
    assert (row["received"], row["duplicates"]) == (6, 0)


def test_numbers_claimed_far_ahead_make_dead_letters_and_not_duplicates(monkeypatch: pytest.MonkeyPatch):
    """Enough of them end the memory of gaps; what the genuine source then sends is kept whole."""
    monkeypatch.setattr(sequence, "MAX_AHEAD", 10)
    forged = [event(1_000 + 2 * n) for n in range(12)]
    worker = Worker(log_of(event(0), *forged, *(event(n) for n in (1, 2, 3)), event(0, epoch=8)))
    worker.run()
    assert [r.error.value for r in worker.rejected] == [1, 2, 3]
    assert "given up as lost" in str(worker.rejected[0].error)
    assert worker.partition.counters().duplicates == 0
    assert claims_of(worker.partition) == [(SOURCE, 7, 1, True)]


@given(
    st.lists(st.tuples(st.sampled_from([7, 8]), st.integers(0, 8), st.sampled_from([1, 2])), min_size=1, max_size=30),
    st.data(),
)
def test_each_number_counts_once_and_every_other_message_is_a_copy_or_a_dead_letter(sent, data):
    """Whatever two senders send under one source, and wherever the worker is killed: the ledger is that of the log."""
    log = log_of(*(event(seq, epoch=epoch, energy_uj=uj) for epoch, seq, uj in sent))
    first = {}
    for epoch, seq, uj in sent:
        first.setdefault((epoch, seq), uj)
    steady = Worker(log)
    ledger = steady.run().ledger()
    contested = sum(first[epoch, seq] != uj for epoch, seq, uj in sent)
    assert len(steady.rejected) == contested
    assert steady.partition.counters().duplicates == len(sent) - len(first) - contested
    killed = Worker(log)
    for count in data.draw(st.lists(st.integers(1, 10), max_size=4)):
        killed.read(topics.POWER, count)
        if data.draw(st.booleans()):
            killed.flush(NOW)
        killed.start()
    assert killed.run().ledger() == ledger


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30_000)), max_size=60))
def test_a_run_gets_a_notice_a_minute_at_most_and_memory_is_bounded(seen):
    claims, now_ms, published = NumberClaims(), 0, dict[str, list[int]]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(number_claims, "MAX_RUNS", 10)
        for source, wait_ms in seen:
            now_ms += wait_ms
            claims.note(topics.POWER, event(0, source=f"s{source}"), now_ms, compared=True)
            for claim in claims.take(now_ms):
                published.setdefault(claim.source, []).append(now_ms)
            assert len(claims._due) + len(claims._published_ms) <= 2 * 10
    for times in published.values():
        assert all(b - a >= EVERY_MS for a, b in pairwise(times))


def test_a_notice_is_read_as_it_was_written_and_anything_else_is_none():
    claims = NumberClaims()
    claims.note(
        topics.TOKENS, Event("http://c/n/w", 3, 4, "c", "w", heartbeat_batch(topics.TOKENS, 5)), 6, compared=False
    )
    [claim] = claims.take(6)
    key, _, value = claim.message()
    assert (key, read_claim(value)) == (b"http://c/n/w", claim)
    for other in (None, b"", b"{}", b"[1]", b"\xff", b"[" * 3_000, b'"' + b"x" * 5_000 + b'"', value[:-1]):
        assert read_claim(other) is None


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=9), st.integers(0, 3))
def test_a_run_is_read_as_it_was_dumped(contested, given_up_below):
    run = SequenceRun(given_up_below=given_up_below)
    for seq, ms in contested:
        run.contested = run.contested.plus(seq, ms)
    assert run.copy() == run
    assert run.contested.messages == len(contested)
    if contested:
        seqs, times = zip(*contested, strict=True)
        assert run.contested == ContestedNumbers(len(contested), min(seqs), max(seqs), min(times), max(times))


def test_a_run_of_a_checkpoint_of_before_is_read():
    assert SequenceRun.load([3, [5], 4, 5, 1, 9, 8]) == SequenceRun(
        below=3, ahead={5}, received=4, last_seq=5, duplicates=1, last_event_ms=9, active_ms=8
    )
