"""Each sender has a memory of its own: what one sends is no copy of another's, and pushes nothing of it out."""

from __future__ import annotations

from collections.abc import Mapping

from contracts.callers import OWN, SEND, Caller
from producers.runtime.batching import RequestRow
from producers.runtime.deduplication import IDENTITY_BYTES, MAX_IDENTITIES, PART, DeduplicationWindow
from producers.runtime.estimated_calls import EstimatedCall
from producers.runtime.receiver.sender_memories import SenderMemories, SenderMemory, memory_name
from producers.runtime.series_totals import PARTS, SERIES_A_PART, SeriesTotal, SeriesTotals, SeriesTrial


def add(memories: SenderMemories, sender: str, *identities: str) -> None:
    memory = memories.of(sender)
    assert memories.keep(sender, memory)
    memory.window.add(identities)


def stored(memories: SenderMemories, before: Mapping[str, bytes] | None = None) -> dict[str, bytes]:
    """Checkpoints on disk after another transaction."""
    checkpoints = dict(before or {}) | memories.changed_parts()
    memories.mark_stored()
    return checkpoints


def next_run(checkpoints: Mapping[str, bytes], **options: int) -> SenderMemories:
    memories = SenderMemories(**options)
    memories.load(checkpoints)
    return memories


def knows(memories: SenderMemories, sender: str, identity: str) -> bool:
    return memories.of(sender).window.has(identity)


def test_an_identity_is_known_to_its_sender_alone_also_in_the_next_run() -> None:
    memories = SenderMemories()
    add(memories, "a", "call 1")
    add(memories, "b", "call 2")
    for run in (memories, next_run(stored(memories))):
        assert [knows(run, sender, "call 1") for sender in ("a", "b", "")] == [True, False, False]


def test_a_flood_of_one_sender_pushes_nothing_of_another_out() -> None:
    memories = SenderMemories()
    add(memories, "b", "call 1")
    add(memories, "a", *(f"flood {n}" for n in range(MAX_IDENTITIES + PART)))
    assert (knows(memories, "b", "call 1"), knows(memories, "a", "flood 0")) == (True, False)


def test_totals_of_counters_are_each_senders_own() -> None:
    memories, series = SenderMemories(), 7
    mine = memories.of("a")
    memories.keep("a", mine)
    mine.totals.apply({series: (None, SeriesTotal(0, 5, 100))})
    flood = memories.of("b")
    memories.keep("b", flood)
    flood.totals.apply({n: (None, SeriesTotal(0, 9, 10**9)) for n in range(PARTS * (SERIES_A_PART + 1))})
    assert next_run(stored(memories)).of("a").totals.last(series) == SeriesTotal(0, 5, 100)


def test_identities_of_earlier_versions_are_known_to_every_sender() -> None:
    window, totals = DeduplicationWindow(), SeriesTotals()
    window.add(["call 1"])
    totals.apply({7: (None, SeriesTotal(0, 5, 100))})
    memories = next_run(window.changed_parts() | totals.changed_parts())
    assert knows(memories, "a", "call 1")
    assert memories.of("a").totals.last(7) == SeriesTotal(0, 5, 100)


def test_beyond_the_bound_the_sender_that_sent_nothing_for_longest_makes_room() -> None:
    memories = SenderMemories(max_senders=2)
    for sender, identity in (("a", "1"), ("b", "2")):
        add(memories, sender, *(f"{identity} {n}" for n in range(2 * PART)))
    disk = stored(memories)
    add(memories, "a", "again")
    add(memories, "c", "3")
    disk = stored(memories, disk)
    for run in (memories, next_run(disk, max_senders=2)):
        assert [knows(run, *one) for one in (("a", "1 0"), ("b", "2 0"), ("c", "3"), ("c", "2 900"))] == [
            True, False, True, False,
        ]  # fmt: skip


SHARE = 4 * PART * IDENTITY_BYTES
BOUND = 8 * SHARE
"""Room of eight senders with four parts each."""


def test_beyond_the_bytes_of_all_senders_the_one_with_most_forgets_its_oldest_calls() -> None:
    forgetful: list[str] = []
    memories = SenderMemories(max_bytes=BOUND, on_forgotten=forgetful.append)
    add(memories, "small", *(f"call {n}" for n in range(3 * PART)))
    for n in range(64 * PART):
        add(memories, "large", f"flood {n}")
        if n % PART == 0:
            memories.make_room()
    memories.make_room()
    assert memories.size_bytes <= BOUND
    assert set(forgetful) == {"large"}
    assert all(knows(memories, "small", f"call {n}") for n in range(3 * PART))
    assert knows(memories, "large", f"flood {64 * PART - 1}")
    assert not knows(memories, "large", "flood 0")


def test_many_senders_leave_each_its_share() -> None:
    memories = SenderMemories(max_senders=8, max_bytes=BOUND)
    add(memories, "small", *(f"call {n}" for n in range(3 * PART)))
    for round_ in range(3):
        for sender in range(6):
            add(memories, f"large {sender}", *(f"flood {round_} {n}" for n in range(16 * PART)))
            memories.make_room()
    assert memories.size_bytes <= BOUND
    assert all(knows(memories, "small", f"call {n}") for n in range(3 * PART))


def test_calls_that_were_forgotten_for_room_are_not_on_disk_either() -> None:
    memories = SenderMemories(max_bytes=BOUND)
    add(memories, "large", *(f"call {n}" for n in range(48 * PART)))
    disk = stored(memories)
    memories.make_room()
    disk = stored(memories, disk)
    again = next_run(disk, max_bytes=2**40)
    assert again.size_bytes == memories.size_bytes <= BOUND
    assert (knows(again, "large", "call 0"), knows(again, "large", f"call {48 * PART - 1}")) == (False, True)


def test_more_than_the_bound_on_disk_is_forgotten_at_the_start() -> None:
    memories = SenderMemories()
    add(memories, "large", *(f"call {n}" for n in range(48 * PART)))
    assert next_run(stored(memories), max_bytes=BOUND).size_bytes <= BOUND


def test_estimated_calls_and_series_count_towards_the_bound() -> None:
    row = RequestRow(
        tenant="acme", model="m", request_id="1", t_start_ms=0, t_first_ms=0, t_end_ms=1, prompt_tokens=1,
        cached_tokens=0, completion_tokens=1,
    )  # fmt: skip
    memories = SenderMemories(max_bytes=2**20)
    memory = memories.of("a")
    memories.keep("a", memory)
    memory.totals.apply({n: (None, SeriesTotal(5, 5, n)) for n in range(4_000)})
    calls = {n: EstimatedCall.of("c", "w", row, "", [n]) for n in range(4_000)}
    memory.window.estimates.apply({n: (None, call) for n, call in calls.items()})
    before = memories.size_bytes
    memories.make_room()
    assert before > 2**20 >= memories.size_bytes
    assert memory.window.estimates.get(3_999) == calls[3_999]
    assert memory.totals.get(3_999) == SeriesTotal(5, 5, 3_999)
    again = next_run(stored(memories), max_bytes=2**40)
    assert again.size_bytes == memories.size_bytes


def test_a_series_that_was_forgotten_only_begins_again() -> None:
    totals = SeriesTotals(since_ns=1)
    totals.apply({n * PARTS: (None, SeriesTotal(10 + n, 20, 100)) for n in range(SERIES_A_PART + 1)})
    assert totals.get(0) is None
    assert SeriesTrial(totals).growth(0, SeriesTotal(10, 30, 150)) is None
    assert SeriesTrial(totals).growth(1, SeriesTotal(11, 30, 150)) is not None
    totals.shrink()
    assert SeriesTrial(totals).growth(PARTS, SeriesTotal(11, 30, 150)) is None


def test_counters_of_a_sender_that_may_have_been_forgotten_only_begin() -> None:
    memories = SenderMemories(SenderMemory(DeduplicationWindow(), SeriesTotals(10)), max_senders=1, now_ns=lambda: 99)
    assert memories.of("a").totals.since_ns == 10
    add(memories, "a", "1")
    assert memories.of("b").totals.since_ns == 99


def test_a_memory_that_another_request_has_just_made_is_not_replaced() -> None:
    memories = SenderMemories()
    first, second = memories.of("a"), memories.of("a")
    assert [memories.keep("a", one) for one in (first, second, first)] == [True, False, True]


def test_a_sender_of_requests_has_a_memory_of_its_own() -> None:
    acme = frozenset({"acme"})
    callers = [Caller("key-1", acme, OWN), Caller("key-2", acme, OWN), Caller("own:acme|x", acme, OWN | SEND),
               Caller("gateway-1", acme, SEND), Caller("gateway-1b", None, SEND), Caller("", None, SEND)]  # fmt: skip
    names = [memory_name(caller) for caller in callers]
    assert names == ["own:acme", "own:acme", "own:acme|x", "gateway-1", "gateway-1b", ""]
