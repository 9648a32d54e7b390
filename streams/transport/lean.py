"""Lean transport: lists of fetched messages go to the stream worker, past Faust's conductor, channels and agents.

Faust's stock path costs some 60 µs of CPU per message: round-robin over partitions, a message, an event and a queue
each, two tasks that wait for one of two events, and an acknowledgement under a lock. The stream worker needs none of
it: it batches messages and commits by offset. Consumer group, rebalances, lifecycle, commits and watchdogs stay
Faust's.

This transport keeps positions itself. Lists that cannot be delivered, because the flow stopped after the fetch, are
given back: the consumer's position returns to their beginning, unless a seek has moved it since.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from time import monotonic
from typing import Any, NamedTuple

import faust
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import ConsumerStoppedError, IllegalStateError
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Transport
from faust.types import TP

from streams.core.decoding import LogMessage
from streams.log_reader import OffsetLookup, TopicPartition
from streams.transport.consumer import LookUpOffset, PromptConsumer, PromptThread, Put

SCHEME = "wattlog+kafka"
"""The scheme of this transport's broker URLs; `streams.transport.scheme` registers it with Faust."""
MAX_MESSAGES = 2_048
"""Messages of all partitions that one fetch delivers."""
READ_WAIT_S = 1.0
"""How long one fetch waits for messages."""


class Fetched(NamedTuple):
    """All messages of one topic and partition on the log in `[begin, end)`."""

    place: TP
    begin: int
    end: int
    messages: list[LogMessage]


def _message(place: Any, record: Any) -> LogMessage:
    return LogMessage(place.topic, record.offset, record.headers, record.value)


class LeanThread(PromptThread):
    """Faust's thread for aiokafka. Everything that reads or moves positions runs on its loop, without an await."""

    async def on_loop(self, work: Any) -> Any:
        """Run a coroutine on the thread's loop. Call it from the main loop."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.thread_loop))

    async def fetched(self) -> list[Fetched]:
        """Return fetched messages by place, and move the positions behind them; empty after READ_WAIT_S without any.

        Raises ConsumerStoppedError, and the broker's error for a fetch (offset out of range, not authorized).
        """
        consumer = self._ensure_consumer()
        fetcher = consumer._fetcher
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError
        with fetcher._subscriptions.fetch_context():
            lists = await _drain(fetcher)
            if not lists:
                waiter = fetcher._create_fetch_waiter()
                await asyncio.wait([waiter], timeout=READ_WAIT_S)
                if not waiter.done():
                    waiter.cancel()
                    return []
                waiter.result()  # Raises the error that ended the coordinator.
                lists = await _drain(fetcher)
            return lists

    async def give_back(self, lists: Iterable[Fetched]) -> None:
        """Undo reads, newest first: the position returns to a list's beginning, unless a seek has moved it since."""
        subscription = self._ensure_consumer()._subscription.subscription
        assignment = subscription and subscription.assignment
        for fetched in lists:
            state = assignment and assignment.state_value(fetched.place)
            if state and state.has_valid_position and state.position == fetched.end:
                self._ensure_consumer().seek(fetched.place, fetched.begin)

    async def seek_one(self, place: TP, offset: int) -> None:
        self._ensure_consumer().seek(place, offset)


async def _drain(fetcher: Any) -> list[Fetched]:
    """Return the messages that aiokafka's fetcher has buffered.

    Without a rebalance in progress this does not wait, so that positions and records cannot come apart.
    """
    if fetcher._subscriptions.reassignment_in_progress:
        await asyncio.sleep(0.01)
        return []
    begins = {}
    for place, result in fetcher._records.items():
        if type(result) is FetchResult:
            records = result._partition_records
            records._consumer_record = _message  # Else each record would become a dataclass of eleven fields.
            begins[place] = records.next_fetch_offset
    if not fetcher._records:
        return []
    drained = await fetcher.fetched_records(None, timeout=0, max_records=MAX_MESSAGES)
    assignment = fetcher._subscriptions.subscription.assignment
    return [
        Fetched(TP(*place), begins[place], assignment.state_value(place).position, messages)
        for place, messages in drained.items()
    ]


class LeanConsumer(PromptConsumer):
    """Faust's consumer without the per-message path."""

    _thread: LeanThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._to_commit: dict[TP, int] = {}
        self._stops = 0

    async def on_start(self) -> None:
        """Subscribe to the topics, now that a loop is running: Faust's conductor starts after its consumer."""
        for name in self.transport.names:
            self.app.topics.add(self.app.topic(name, value_type=bytes, value_serializer="raw"))
        await super().on_start()

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return LeanThread(self, loop=self.loop, beacon=self.beacon)

    # -- reading ------------------------------------------------------------------------------------------------------

    def stop_flow(self) -> None:
        self._stops += 1
        super().stop_flow()

    async def _drain_messages(self, fetcher: Any) -> None:
        """Deliver fetched lists until the consumer stops. Faust's fetcher service runs this."""
        try:
            while not (self.should_stop or fetcher.should_stop):
                if not self.flow_active:
                    await self.wait(self.can_resume_flow)
                    continue
                stops = self._stops
                lists = await self._thread.on_loop(self._thread.fetched())
                for n, fetched in enumerate(lists):
                    if self._stops != stops or not self.flow_active:
                        await self._thread.on_loop(self._thread.give_back(lists[n:]))
                        break
                    place = fetched.place
                    self._report_read(place)
                    await self.transport.put(place.topic, place.partition, fetched.messages, fetched.begin)
        except ConsumerStoppedError:
            if not self.app.should_stop:
                raise

    def _report_read(self, place: TP) -> None:
        """Tell Faust's watchdogs and monitor that messages were read."""
        self.app.monitor.stream_inbound_time[place] = monotonic()
        self.app.monitor.track_tp_end_offset(place, self.highwater(place))

    # -- committing ---------------------------------------------------------------------------------------------------

    def commit_later(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Let Faust's commit handler commit these offsets in its next run: everything before them is stored."""
        self._to_commit.update({TP(*place): offset for place, offset in offsets.items()})

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        self._to_commit.clear()
        await super().on_partitions_revoked(revoked)

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (tp for tp in self._to_commit if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        return self._to_commit.get(tp)


class LeanTransport(Transport):  # type: ignore[misc]
    """Faust's aiokafka transport with a `LeanConsumer`, which delivers the messages of the topics `names` to `put`."""

    Consumer = LeanConsumer
    names: Iterable[str] = ()
    put: Put


class LeanReader:
    """A `streams.log_reader.LogReader` over a Faust app whose broker URL has the scheme SCHEME."""

    def __init__(self, app: faust.App, look_up: LookUpOffset) -> None:
        self._app, self._look_up = app, look_up

    def feed(self, names: Iterable[str], put: Put) -> None:
        """Deliver the messages of these topics to `put`. Call it before the app starts."""
        self._app.transport.names, self._app.transport.put = tuple(names), put

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        self._app.consumer.commit_later(offsets)

    async def seek(self, topic: str, partition: int, offset: int) -> None:
        thread = self._app.consumer._thread
        try:
            await thread.on_loop(thread.seek_one(TP(topic, partition), offset))
        except (IllegalStateError, ConsumerStoppedError):
            return  # The partition is not owned any more.

    async def look_up(self, topic: str, partition: int, offset: int) -> OffsetLookup:
        return await asyncio.to_thread(self._look_up, topic, partition, offset)

    def forget(self) -> None:
        """Do nothing: the consumer itself clears its offsets when partitions are revoked."""
