"""Stock transport: messages pass through Faust's conductor, channels and agents, one by one."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import Any

import faust
from aiokafka.errors import ConsumerStoppedError, IllegalStateError
from faust.types import TP
from mode import CrashingSupervisor

from streams.core.decoding import LogMessage
from streams.log_reader import OffsetLookup, TopicPartition
from streams.transport.consumer import LookUpOffset, PromptConsumer, Put

UNDER_WAY_S = 1.5
"""Longest time until a pause takes effect: Faust's consumer checks for paused partitions at least once a second."""


class StockReader:
    """A `streams.log_reader.LogReader` over the agents of a Faust app. `look_up` reads the log itself, and blocks."""

    def __init__(self, app: faust.App, look_up: LookUpOffset) -> None:
        self._app, self._look_up = app, look_up
        self._unacked: defaultdict[TopicPartition, deque[Any]] = defaultdict(deque)
        app.transport.Consumer = PromptConsumer

    def feed(self, names: Iterable[str], put: Put) -> None:
        """Deliver the messages of these topics to `put`. Call it before the app starts."""
        for name in names:
            self._agent(name, put)

    def _agent(self, name: str, put: Put) -> None:
        topic = self._app.topic(name, value_type=bytes, key_type=bytes, value_serializer="raw", key_serializer="raw")

        async def read(stream: Any) -> None:
            async for event in stream.noack().events():
                raw = event.message
                self._note(event)
                await put(name, raw.partition, (LogMessage(name, raw.offset, raw.headers, raw.value),), None)

        read.__name__ = f"read_{name.replace('.', '_')}"
        self._app.agent(topic, name=read.__name__, supervisor_strategy=CrashingSupervisor)(read)

    def _note(self, event: Any) -> None:
        """Keep events in offset order: one that is read again replaces itself and those behind it."""
        message = event.message
        unacked = self._unacked[message.topic, message.partition]
        while unacked and unacked[-1].message.offset >= message.offset:
            unacked.pop()
        unacked.append(event)

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Acknowledge events to Faust strictly in offset order: with gaps, it commits past unacknowledged ones."""
        for place, offset in offsets.items():
            unacked = self._unacked[place]
            while unacked and unacked[0].message.offset < offset:
                unacked.popleft().ack()

    async def seek(self, topic: str, partition: int, offset: int) -> None:
        """Seek while Faust processes nothing of the partition: else it drops the re-read as already read."""
        place = TP(topic, partition)
        consumer = self._app.consumer
        consumer.pause_partitions({place})
        await asyncio.sleep(UNDER_WAY_S)
        try:
            await consumer.seek_wait({place: offset})
            consumer.resume_partitions({place})
        except (IllegalStateError, ConsumerStoppedError):
            return  # The partition is not owned any more.

    async def look_up(self, topic: str, partition: int, offset: int) -> OffsetLookup:
        return await asyncio.to_thread(self._look_up, topic, partition, offset)

    def forget(self) -> None:
        """Forget unacknowledged events: a rebalance took the partitions away."""
        self._unacked.clear()
