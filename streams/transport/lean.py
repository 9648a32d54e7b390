"""The lean transport: lists of fetched messages go to the stream worker, past Faust's conductor, channels and agents.

Faust's stock path costs some 60 us of CPU a message: round-robin over partitions, a message, an event and a queue each,
two tasks to wait for one of two things, an acknowledgement under a lock. None of it is needed by an operator that
batches by itself and commits by offset. What stays Faust's: consumer group, rebalances, lifecycle, commits, watchdogs.

Positions are ours to keep. Lists that were fetched and cannot be handed on, because the flow stopped meanwhile, are
given back: the consumer's position returns to where they begin, unless somebody sought elsewhere since.
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
"""The scheme of this transport's broker URLs: `faust.transports` knows it once `register` was called."""
READ_MOST = 2_048
"""Messages of all partitions handed over at once."""
READ_WAIT_S = 1.0
"""How long one look at what was fetched waits for something."""


class Fetched(NamedTuple):
    """Messages of one place: all that the log holds in `[begin, end)`."""

    place: TP
    begin: int
    end: int
    messages: list[LogMessage]


def _message(place: Any, record: Any) -> LogMessage:
    return LogMessage(place.topic, record.offset, record.headers, record.value)


class LeanThread(PromptThread):
    """The thread that aiokafka runs in. Everything here that touches positions runs on its loop, in one step."""

    async def on_loop(self, work: Any) -> Any:
        """Run a coroutine on the thread's loop, from the main one."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.thread_loop))

    async def fetched(self) -> list[Fetched]:
        """What was fetched, by place; empty when nothing came for READ_WAIT_S. Positions move behind it.

        Raises ConsumerStoppedError, and what the broker said of a fetch (offset out of range, not authorized).
        """
        consumer = self._ensure_consumer()
        fetcher = consumer._fetcher
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError
        with fetcher._subscriptions.fetch_context():
            found = await _drain(fetcher)
            if not found:
                waiter = fetcher._create_fetch_waiter()
                await asyncio.wait([waiter], timeout=READ_WAIT_S)
                if not waiter.done():
                    waiter.cancel()
                    return []
                waiter.result()  # Raises what ended the coordinator.
                found = await _drain(fetcher)
            return found

    async def give_back(self, lists: Iterable[Fetched]) -> None:
        """Undo reads, newest first: where nobody sought since, the position returns to where the list begins."""
        subscription = self._ensure_consumer()._subscription.subscription
        assignment = subscription and subscription.assignment
        for each in lists:
            state = assignment and assignment.state_value(each.place)
            if state and state.has_valid_position and state.position == each.end:
                self._ensure_consumer().seek(each.place, each.begin)

    async def seek_one(self, place: TP, offset: int) -> None:
        self._ensure_consumer().seek(place, offset)


async def _drain(fetcher: Any) -> list[Fetched]:
    """What lies ready in aiokafka's fetcher. Without a rebalance under way this does not wait, so that nothing moves
    between the position and the records."""
    if fetcher._subscriptions.reassignment_in_progress:
        await asyncio.sleep(0.01)
        return []
    begins = {}
    for place, result in fetcher._records.items():
        if type(result) is FetchResult:
            records = result._partition_records
            records._consumer_record = _message  # Else each would become a dataclass of eleven fields.
            begins[place] = records.next_fetch_offset
    if not fetcher._records:
        return []
    drained = await fetcher.fetched_records(None, timeout=0, max_records=READ_MOST)
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
        self._stored: dict[TP, int] = {}
        self._stops = 0

    async def on_start(self) -> None:
        """Have the topics subscribed to, now that a loop runs: Faust's conductor starts after its consumer."""
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
        """Faust's fetcher service runs this."""
        try:
            while not (self.should_stop or fetcher.should_stop):
                if not self.flow_active:
                    await self.wait(self.can_resume_flow)
                    continue
                stops = self._stops
                lists = await self._thread.on_loop(self._thread.fetched())
                for n, each in enumerate(lists):
                    if self._stops != stops or not self.flow_active:
                        await self._thread.on_loop(self._thread.give_back(lists[n:]))
                        break
                    self._seen(each.place)
                    await self.transport.put(each.place.topic, each.place.partition, each.messages, each.begin)
        except ConsumerStoppedError:
            if not self.app.should_stop:
                raise

    def _seen(self, place: TP) -> None:
        """For Faust's watchdogs and monitor."""
        self.app.monitor.stream_inbound_time[place] = monotonic()
        self.app.monitor.track_tp_end_offset(place, self.highwater(place))

    # -- committing ---------------------------------------------------------------------------------------------------

    def stored(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Everything before these offsets may be committed; the next round of Faust's commit handler does."""
        self._stored.update({TP(*place): offset for place, offset in offsets.items()})

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        self._stored.clear()
        await super().on_partitions_revoked(revoked)

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (tp for tp in self._stored if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        return self._stored.get(tp)


class LeanTransport(Transport):
    """Faust's aiokafka transport with that consumer. `put` takes what is read of the topics `names`."""

    Consumer = LeanConsumer
    names: Iterable[str] = ()
    put: Put


class LeanReader:
    """A `streams.log_reader.Reader` over a Faust app whose broker URL has the scheme SCHEME."""

    def __init__(self, app: faust.App, look: LookUpOffset) -> None:
        self._app, self._look = app, look

    def feed(self, names: Iterable[str], put: Put) -> None:
        """Hand the messages of these topics to `put`. Before the app starts."""
        self._app.transport.names, self._app.transport.put = tuple(names), put

    def acknowledge(self, offsets: Mapping[TopicPartition, int]) -> None:
        self._app.consumer.stored(offsets)

    async def seek(self, topic: str, partition: int, offset: int) -> None:
        thread = self._app.consumer._thread
        try:
            await thread.on_loop(thread.seek_one(TP(topic, partition), offset))
        except (IllegalStateError, ConsumerStoppedError):
            return  # It is not ours any more.

    async def look(self, topic: str, partition: int, offset: int) -> OffsetLookup:
        return await asyncio.to_thread(self._look, topic, partition, offset)

    def forget(self) -> None:
        """Partitions were given up. The consumer heard of it."""
