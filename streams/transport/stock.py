"""The stock transport: messages come through Faust's conductor, channels and agents, one by one."""

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
"""Faust's consumer looks at what it fetched, and at which partitions are paused, at least once a second."""


class StockReader:
    """A `streams.log_reader.Reader` over the agents of a Faust app. `look` asks the log itself, in a thread."""

    def __init__(self, app: faust.App, look: LookUpOffset) -> None:
        self._app, self._look = app, look
        self._unacked: defaultdict[TopicPartition, deque[Any]] = defaultdict(deque)
        app.transport.Consumer = PromptConsumer

    def feed(self, names: Iterable[str], put: Put) -> None:
        """Hand the messages of these topics to `put`. Before the app starts."""
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
        """Events stand in offset order; one that comes again takes the place of itself and of what followed it."""
        message = event.message
        unacked = self._unacked[message.topic, message.partition]
        while unacked and unacked[-1].message.offset >= message.offset:
            unacked.pop()
        unacked.append(event)

    def acknowledge(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Acknowledge events strictly in offset order: with holes, Faust commits past what is not acknowledged."""
        for place, offset in offsets.items():
            unacked = self._unacked[place]
            while unacked and unacked[0].message.offset < offset:
                unacked.popleft().ack()

    async def seek(self, topic: str, partition: int, offset: int) -> None:
        """Seek while nothing of the partition is under way in Faust, else it drops what it reads again as read."""
        place = TP(topic, partition)
        consumer = self._app.consumer
        consumer.pause_partitions({place})
        await asyncio.sleep(UNDER_WAY_S)
        try:
            await consumer.seek_wait({place: offset})
            consumer.resume_partitions({place})
        except (IllegalStateError, ConsumerStoppedError):
            return  # It is not ours any more.

    async def look(self, topic: str, partition: int, offset: int) -> OffsetLookup:
        return await asyncio.to_thread(self._look, topic, partition, offset)

    def forget(self) -> None:
        """Partitions were given up."""
        self._unacked.clear()
