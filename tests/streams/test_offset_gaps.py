"""Offset gaps in deliveries: a loss ends the worker, skipped messages are read again, empty gaps are passed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from prometheus_client import REGISTRY

from contracts import topics
from contracts.errors import LedgerError
from streams.core.decoding import LogMessage
from streams.offset_gap_resolver import REREADS
from tests.streams.driven_worker import Driven, ledger
from tests.streams.sample_log import Sent, interval, two_windows
from warehouse.client import Warehouse


def _assigned(driven: Driven, *steps: Sequence[LogMessage]) -> None:
    async def run() -> None:
        await driven.stream_worker.assign([0], {(t, 0): 0 for t in topics.JOINED})
        for messages in steps:
            await driven.read(messages, all_taken=False)
        await driven.stream_worker.store_once()

    asyncio.run(run())


def _counted(name: str) -> float:
    return REGISTRY.get_sample_value(f"wattlog_stream_{name}_total") or 0.0


def test_unread_messages_deleted_by_retention_end_the_worker(warehouse: Warehouse) -> None:
    sent = two_windows()
    driven = Driven(warehouse, sent.log)
    driven.reader.earliest[topics.POWER] = 3
    del sent.log.messages[topics.POWER][2]
    with pytest.raises(LedgerError, match=r"wattlog\.power\.v1 partition 0 lost messages 2 to 2.*--accept-loss"):
        _assigned(driven, sent.log.messages[topics.POWER])


def test_an_unread_log_must_begin_at_the_offset_of_the_group(warehouse: Warehouse) -> None:
    """Otherwise the loss of a first message would go unnoticed."""
    sent = two_windows()
    driven = Driven(warehouse, sent.log)
    driven.reader.earliest[topics.POWER] = 1
    with pytest.raises(LedgerError, match=r"wattlog\.power\.v1 partition 0 lost messages 0 to 0"):
        _assigned(driven, sent.log.messages[topics.POWER][1:])


def test_empty_offsets_are_passed_and_counted(warehouse: Warehouse) -> None:
    """A transaction's marker, or a compacted message."""
    sent = two_windows()
    messages = sent.log.messages[topics.POWER]
    messages[2:] = [m._replace(offset=m.offset + 3) for m in messages[2:]]
    driven, before = Driven(warehouse, sent.log), _counted("empty_offsets")
    _assigned(driven, messages, sent.log.messages[topics.TOKENS])
    assert ledger(warehouse) == sent.oracle()
    assert driven.reader.sought == []
    assert _counted("empty_offsets") - before == 3
    assert driven.committed[topics.POWER][-1] == messages[-1].offset


def test_messages_dropped_by_the_consumer_are_read_again(warehouse: Warehouse) -> None:
    """Later messages in flight still arrive and are ignored; then all are read again."""
    sent = Sent()
    for n in range(12):
        sent.power(interval(n, 1))
    sent.complete_to(30)
    power, tokens = (sent.log.messages[t] for t in topics.JOINED)
    driven, before = Driven(warehouse, sent.log), _counted("rereads")
    _assigned(driven, power[:3], power[5:8], power[8:10], power[3:], tokens)
    assert driven.reader.sought == [(topics.POWER, 3)]
    assert _counted("rereads") - before == 1
    assert ledger(warehouse) == sent.oracle()
    assert driven.committed[topics.POWER] == [m.offset for m in power]


def test_a_reread_with_the_same_gap_is_tried_again_a_bounded_number_of_times(warehouse: Warehouse) -> None:
    sent = two_windows()
    driven = Driven(warehouse, sent.log)
    power = sent.log.messages[topics.POWER]
    with pytest.raises(LedgerError, match=rf"messages 1 to 1 are on the log, but were not delivered in {REREADS}"):
        _assigned(driven, power[:1], *[power[2:]] * (REREADS + 1))
    assert driven.reader.sought == [(topics.POWER, 1)] * REREADS


def test_messages_of_a_reader_that_guarantees_completeness_are_accepted(warehouse: Warehouse) -> None:
    """It read them in one go from the log: no need to ask the log again for every marker of a transaction."""
    sent = two_windows()
    power = sent.log.messages[topics.POWER]
    power[2:] = [m._replace(offset=m.offset + 1) for m in power[2:]]
    driven = Driven(warehouse, sent.log)

    async def never(topic: str, partition: int, offset: int) -> object:
        raise AssertionError("asked the log")

    driven.reader.look_up = never  # type: ignore[assignment,method-assign]

    async def run() -> None:
        await driven.stream_worker.assign([0], {(t, 0): 0 for t in topics.JOINED})
        await driven.read(sent.log.messages[topics.TOKENS])
        await driven.read(power, begin=0)
        await driven.stream_worker.store_once()

    asyncio.run(run())
    assert ledger(warehouse) == sent.oracle()


def test_a_checkpoint_behind_the_committed_offsets_reads_again_from_the_checkpoint(warehouse: Warehouse) -> None:
    """The log still has the rows that a restore of the warehouse from a backup lost."""
    sent = two_windows()
    power, tokens = (sent.log.messages[t] for t in topics.JOINED)
    first, heir = Driven(warehouse, sent.log), Driven(warehouse, sent.log)

    async def run() -> None:
        await first.stream_worker.assign([0], {(t, 0): 0 for t in topics.JOINED})
        await heir.stream_worker.assign([0], dict.fromkeys(((t, 0) for t in topics.JOINED), 3))
        await heir.read([*power[3:], *power, *tokens[3:], *tokens], all_taken=False)
        await heir.stream_worker.store_once()

    asyncio.run(run())
    assert heir.reader.sought == [(topics.POWER, 0), (topics.TOKENS, 0)]
    assert ledger(warehouse) == sent.oracle()
