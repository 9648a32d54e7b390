"""Metered quantities to rows: each counts once, for any copies, order, batches and crashes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import codec, topics
from contracts.events import Event, UsageBatch
from contracts.rows import SCHEMAS, Table
from producers.runtime.batching import UsageRow, usage_batch
from streams.core import usage_batch as core
from tests.support.partition_log import power

T0 = 1_758_000_000_000
NOW_MS = T0 + 60_000
LIMITS = core.UsageLimits()
LATER = core.UsageLimits(skew_ms=3_600_000)


def arrived(
    event: Event, offset: int = 0, partition: int = 0, log_ms: int = T0, appended: bool = True
) -> core.UsageMessage:
    headers, value = codec.encode(event)
    return core.UsageMessage(partition, offset, log_ms, appended, headers, value)


def event(*rows: UsageRow, source: str = "s", seq: int = 0, workload: str = "w") -> Event:
    return Event(source, 1, seq, "c", workload, usage_batch(rows, 0))


def used(quantity: str = "1", **more: Any) -> UsageRow:
    return UsageRow(**{"meter": "tool_calls", "unit": "call", "t0_ms": T0, "t1_ms": T0, "quantity": quantity, **more})


def batch_of(*messages: core.UsageMessage, limits: core.UsageLimits = LIMITS) -> core.UsageMicroBatch:
    batch = core.UsageMicroBatch("log", limits)
    for message in messages:
        batch.add(message, NOW_MS)
    return batch


# -- reading -----------------------------------------------------------------------------------------------------------


def test_a_row_is_stored_as_it_was_sent() -> None:
    row = UsageRow(
        meter="gpu_minutes",
        unit="min",
        quantity="-12.000000000001",
        t0_ms=T0,
        t1_ms=T0 + 3_600_000,
        tenant="acme",
        origin="runai://c1",
        event_id="e-1",
        session_id="s-1",
        trace_id="t-1",
        step="plan",
        dimensions={"pod": "p-1"},
    )
    batch = batch_of(arrived(event(row, seq=7, source="runai://c1/x"), offset=41, partition=3), limits=LATER)
    table = core.usage_rows(batch, np.ones(1, np.bool_))
    assert list(table) == list(SCHEMAS["usage"])
    assert {name: column[0] for name, column in table.items()} == {
        "at": T0 + 3_599_999, "cluster": "c", "workload": "w", "tenant": "acme", "meter": "gpu_minutes", "unit": "min",
        "quantity": Decimal("-12.000000000001"), "t0": T0, "t1": T0 + 3_600_000, "session_id": "s-1",
        "trace_id": "t-1", "step": "plan", "dimensions": {"pod": "p-1"}, "origin": "runai://c1", "event_id": "e-1",
        "source": "runai://c1/x", "epoch": 1, "seq": 7, "log_id": "log", "log_partition": 3, "log_offset": 41,
        "log_row": 0, "version": core.STORED, "deleted": 0,
    }  # fmt: skip


def test_a_quantity_counts_in_the_window_of_its_last_millisecond() -> None:
    at = core.counted_at(np.array([T0, T0, T0]), np.array([T0 + 3_600_000, T0 + 1, T0]))
    assert at.tolist() == [T0 + 3_599_999, T0, T0]


def test_extreme_numbers_of_a_producer_are_stored() -> None:
    """The largest epoch that an id may have, and Kafka timestamps beyond the range of the tables."""
    headers, value = codec.encode(Event("s", 9_999_999_999_999_999_999, 10**15 - 1, "c", "w", event(used()).batch))
    messages = [core.UsageMessage(0, n, ms, False, headers, value) for n, ms in enumerate((-(2**63), 2**63 - 1))]
    batch = batch_of(*messages)
    assert [p.log_ms for p in batch.positions()] == [0, core.LAST_MS]
    table = core.usage_rows(batch, np.ones(2, np.bool_))
    assert table["epoch"].tolist() == [9_999_999_999_999_999_999] * 2
    assert core.id_rows(batch, batch.identities())["log_ms"].tolist() == [0, core.LAST_MS]


def test_absent_columns_are_empty() -> None:
    table = core.usage_rows(batch_of(arrived(event(used(), used()))), np.ones(2, np.bool_))
    for name in ("tenant", "session_id", "trace_id", "step", "origin", "event_id"):
        assert table[name] == ["", ""], name
    assert list(table["dimensions"]) == [{}, {}]


@pytest.mark.parametrize(
    ("message", "field", "reason"),
    [
        (core.UsageMessage(0, 0, T0, True, [], b"x"), "ce_type", "required"),
        (core.UsageMessage(0, 0, T0, True, codec.encode(event(used()))[0], None), "value", "tombstone"),
        (core.UsageMessage(0, 0, T0, True, codec.encode(event(used()))[0], b"\xff"), "value", "does not fit"),
        (arrived(Event("s", 1, 0, "c", "w", power([]))), "ce_type", f"does not belong on {topics.USAGE}"),
        (arrived(event(used(t0_ms=T0, t1_ms=T0 + 5_001))), "t_ms", "in the future by more than 5000 ms"),
        (arrived(event(used(t1_ms=NOW_MS + 5_001)), appended=False), "t_ms", "in the future by more than 5000 ms"),
    ],
)
def test_an_invalid_message_is_rejected_with_the_reason(message: core.UsageMessage, field: str, reason: str) -> None:
    batch = batch_of(message)
    ((rejected, error),) = batch.rejected
    assert (rejected, error.field) == (message, field)
    assert reason in str(error)
    assert not batch.events and batch.next_offsets == {0: 1}


def test_messages_dated_by_the_broker_are_judged_by_that_date() -> None:
    batch = core.UsageMicroBatch("log", core.UsageLimits())
    batch.add(arrived(event(used(t1_ms=T0 + 5_000))), now_ms=0)
    assert not batch.rejected


def test_a_batch_is_full_by_rows_by_bytes_or_by_messages() -> None:
    message = arrived(event(used(), used()))
    size = len(message.value or b"")
    for limits in (core.UsageLimits(rows=2), core.UsageLimits(bytes=size), core.UsageLimits(messages=1)):
        assert not core.UsageMicroBatch("log", limits).full
        assert batch_of(message, limits=limits).full
    for limits in (core.UsageLimits(rows=3), core.UsageLimits(bytes=size + 1), core.UsageLimits(messages=2)):
        assert not batch_of(message, limits=limits).full


# -- identities ------------------------------------------------------------------------------------------------------


def test_rows_of_a_tenant_and_meter_with_equal_origin_and_event_id_are_one_on_any_path() -> None:
    first = event(used(origin="o", event_id="e"))
    again = event(
        used("2", origin="o", event_id="e", t0_ms=0), source="else", seq=9, workload="other"
    )  # fmt: skip
    assert core.identities(first) == core.identities(again)


def test_an_event_on_several_meters_has_several_rows_and_tenants_have_separate_ids() -> None:
    named = [used(origin="o", event_id="e"), used(origin="o", event_id="e", meter="m2")]
    named.append(used(origin="o", event_id="e", tenant="other"))
    assert len(set(core.identities(event(*named)))) == 3


def test_the_default_origin_is_the_source() -> None:
    by_source = core.identities(event(used(event_id="e"), source="a"))
    assert by_source == core.identities(event(used(event_id="e", origin="a"), source="b", seq=4))
    assert by_source != core.identities(event(used(event_id="e"), source="b"))


def test_the_default_event_id_is_the_place_in_the_event() -> None:
    rows = event(used(), used())
    assert core.identities(rows) == core.identities(event(used(), used()))
    assert len({*core.identities(rows), *core.identities(event(used(), used(), seq=1))}) == 4


def test_no_row_has_the_identity_of_another_kind() -> None:
    plain = core.identities(event(used(), source="s", seq=3))
    assert plain != core.identities(event(used(origin="s", event_id="1")))
    assert core.identities(event(used(origin="ab", event_id="c"))) != core.identities(
        event(used(origin="a", event_id="bc"))
    )


# -- once, in any order ----------------------------------------------------------------------------------------------


@dataclass
class Tables:
    """The three tables in dictionaries, and the warehouse's queries over them."""

    ids: dict[core.RowId, dict[core.LogPosition, None]] = field(default_factory=dict)
    usage: dict[core.LogPosition, tuple[int, int, Decimal]] = field(default_factory=dict)
    """By place: (version, deleted, quantity)."""

    def register(self, table: Table, log_id: str) -> None:
        columns = ("id_hi", "id_lo", "log_ms", "log_partition", "log_offset", "log_row")
        for hi, lo, ms, partition, offset, row in zip(*(np.asarray(table[c]).tolist() for c in columns), strict=True):
            self.ids.setdefault((hi, lo), {})[core.LogPosition(ms, log_id, partition, offset, row)] = None

    def firsts(self, ids: list[core.RowId]) -> dict[core.RowId, core.LogPosition]:
        return {i: min(self.ids[i]) for i in ids if len(self.ids[i]) > 1}

    def store(self, table: Table, places: list[core.LogPosition]) -> None:
        for place, quantity in zip(places, table["quantity"], strict=True):
            if self.usage.get(place, (0,))[0] <= core.STORED:
                self.usage[place] = core.STORED, 0, quantity

    def take_back(self, ids: list[core.RowId]) -> None:
        for i in ids:
            for place in sorted(self.ids[i])[1:]:
                self.usage[place] = core.TAKEN_BACK, 1, Decimal(0)

    def live(self) -> dict[core.LogPosition, Decimal]:
        return {place: quantity for place, (_, deleted, quantity) in self.usage.items() if not deleted}


def storing(tables: Tables, batch: core.UsageMicroBatch) -> Iterator[None]:
    """Store a batch as the job does, one write or query at a time: another worker may act in between, or this one may
    end.
    """
    ids, places = batch.identities(), batch.positions()
    tables.register(core.id_rows(batch, ids), batch.log_id)
    yield
    settled = core.resolve_copies(ids, places, tables.firsts(ids))
    yield
    live = [place for place, stays in zip(places, settled.counts, strict=True) if stays]
    tables.store(core.usage_rows(batch, settled.counts), live)
    yield
    tables.take_back(settled.superseded)


def once(messages: list[core.UsageMessage]) -> dict[core.LogPosition, Decimal]:
    """The expected rows: of each identity the first copy."""
    batch = batch_of(*messages)
    quantities = core.usage_rows(batch, np.ones(batch.rows, np.bool_))["quantity"]
    first: dict[core.RowId, tuple[core.LogPosition, Decimal]] = {}
    for i, copy in zip(batch.identities(), zip(batch.positions(), quantities, strict=True), strict=True):
        first[i] = min(first.get(i, copy), copy)
    return dict(first.values())


@st.composite
def logs(draw: st.DrawFn) -> list[core.UsageMessage]:
    """Messages on two partitions, many of whose rows are copies of others, dated by the broker in offset order."""
    messages = []
    for partition in range(2):
        log_ms = T0
        for offset in range(draw(st.integers(0, 5))):
            rows = [
                used(str(draw(st.integers(1, 99))), origin="o", event_id=draw(st.sampled_from(["", "a", "b", "c"])))
                for _ in range(draw(st.integers(0, 3)))
            ]
            sample = event(*rows, source=f"s{partition}", seq=draw(st.integers(0, 2)))
            log_ms += draw(st.integers(0, 2))
            messages.append(arrived(sample, offset, partition, log_ms))
    return messages


@given(logs(), st.data())
def test_each_row_counts_once_for_any_steps_and_repetitions(log: list[core.UsageMessage], data: st.DataObject) -> None:
    """Two workers, a partition each, in steps of any size that interleave freely and are cut off anywhere. A worker
    that was cut off begins its batch again, in another size.
    """
    tables, waiting = Tables(), {p: [m for m in log if m.partition == p] for p in range(2)}
    running: dict[int, tuple[Iterator[None], int]] = {}
    crashes = data.draw(st.integers(0, 4))
    while any(waiting.values()):
        p = data.draw(st.sampled_from([p for p, left in waiting.items() if left]))
        if p not in running:
            size = data.draw(st.integers(1, len(waiting[p])))
            running[p] = storing(tables, batch_of(*waiting[p][:size])), size
        elif crashes and data.draw(st.booleans()):
            crashes -= 1
            del running[p]
            continue
        steps, size = running[p]
        try:
            next(steps)
        except StopIteration:
            del running[p]
            waiting[p] = waiting[p][size:]
    assert tables.live() == once(log)


@given(logs(), st.randoms(use_true_random=False))
def test_a_replay_of_everything_changes_nothing(log: list[core.UsageMessage], rng: Any) -> None:
    tables = Tables()
    for _ in range(2):
        rng.shuffle(log)
        for message in log:
            list(storing(tables, batch_of(message)))
        assert tables.live() == once(log)


def test_a_copy_stored_after_its_withdrawal_stays_withdrawn() -> None:
    """A worker is slow between query and write; meanwhile another stores the first copy."""
    tables = Tables()
    first, second = (arrived(event(used(str(p), event_id="e")), 0, p, T0 + p) for p in range(2))
    slow = storing(tables, batch_of(second))
    next(slow), next(slow)
    list(storing(tables, batch_of(first)))
    list(slow)
    assert tables.live() == once([first, second]) == {core.LogPosition(T0, "log", 0, 0, 0): Decimal(0)}


def test_copies_in_one_batch_count_once_and_are_counted() -> None:
    batch = batch_of(*(arrived(event(used(origin="o", event_id="e"), used(), seq=n), offset=n) for n in range(3)))
    tables = Tables()
    ids = batch.identities()
    tables.register(core.id_rows(batch, ids), "log")
    settled = core.resolve_copies(ids, batch.positions(), tables.firsts(ids))
    assert settled.counts.tolist() == [True, True, False, True, False, True]
    assert settled.duplicates == 2


def test_events_are_recorded_with_their_numbers() -> None:
    table = core.event_rows(batch_of(*(arrived(event(used(), seq=n), offset=n, partition=2) for n in (0, 2))))
    assert list(table) == list(SCHEMAS["usage_events"])
    assert table["seq"].tolist() == [0, 2]
    assert table["log_partition"].tolist() == [2, 2]


def test_clusters_of_simulated_sources_are_marked_once() -> None:
    batch = batch_of(arrived(event(used(), source="simulated://c/x")), arrived(event(used(), source="s")))
    assert core.simulated_clusters(batch, set()) == ["c"]
    assert core.simulated_clusters(batch, {"c"}) == []


def test_an_empty_event_is_read_and_stores_nothing() -> None:
    batch = batch_of(arrived(Event("s", 1, 0, "c", "w", usage_batch([], T0))))
    assert isinstance(batch.events[0][1].batch, UsageBatch)
    assert [len(core.usage_rows(batch, np.ones(0, np.bool_))[c]) for c in SCHEMAS["usage"]] == [0] * len(
        SCHEMAS["usage"]
    )
