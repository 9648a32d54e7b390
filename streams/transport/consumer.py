"""Changes to Faust's aiokafka consumer that both transports need (faust-streaming 0.15.3, aiokafka 0.14)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer
from faust.types import TP

from streams.core.decoding import LogMessage
from streams.log_reader import OffsetLookup

Put = Callable[[str, int, Sequence[LogMessage], int | None], Awaitable[None]]
"""`StreamWorker.put`."""
LookUpOffset = Callable[[str, int, int], OffsetLookup]
"""`streams.kafka_admin.look_up_offset` with the brokers and the group filled in: it blocks."""
FETCH_WAIT_MS = 50
"""How long a broker may delay a fetch while it has nothing new. One request covers all partitions without buffered
messages, and the next waits for its answer. With Faust's 1,500 ms, a few quiet partitions limit a busy one to one fetch
(1 MB) in 1.5 s. Measured on the MLPerf replay, with one busy partition of four: 15 s, and 9 s with this value."""


class PromptThread(AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's thread for aiokafka, with prompt fetches and a complete seek to committed offsets."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # Read once, when it starts.
        return consumer

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek every partition to its committed offset, also where that is 0.

        Faust drops what it fetches between an assignment and the start of the flow, and relies on this seek to get it
        again. The seek of aiokafka itself skips places whose committed offset is 0 (`if offset and offset > 0`).
        There, the dropped messages were never delivered.
        """
        return await self.call_thread(self._seek_to_committed)  # type: ignore[no-any-return]

    async def _seek_to_committed(self) -> Mapping[TP, int]:
        consumer = self._ensure_consumer()
        committed: Mapping[TP, int] = await consumer.seek_to_committed()
        for place, offset in committed.items():
            if offset == 0:
                consumer.seek(place, 0)
        return committed


class PromptConsumer(Consumer):  # type: ignore[misc]
    """Faust's consumer on a `PromptThread`."""

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return PromptThread(self, loop=self.loop, beacon=self.beacon)
