"""Reads spans from the topic that a Collector's Kafka exporter writes to.

The checkpoint is the next offset of each partition, with the identities of recent calls for deduplication. It is stored
in one transaction with the events, so a producer that is killed reads on from there and counts nothing twice.
Partitions are assigned, not subscribed to, so the group's other members do not matter. The group's offsets are
committed too, after the checkpoint, for people who watch the group's lag; nothing reads them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from contracts.errors import Unavailable
from producers.api import PollResult
from producers.gateways.calls import AgentUsage, InferenceCall, batches, group_by_workload
from producers.gateways.deployments import Deployments
from producers.gateways.otel.genai import ORIGIN, GenAIReader, SpanCalls
from producers.gateways.otel.otlp import is_json
from producers.gateways.remarks import FirstRemarks
from producers.runtime.clock import Clock
from producers.runtime.deduplication import DeduplicationWindow
from producers.runtime.refusals import at_place, read_each

MAX_MESSAGES, MAX_BYTES = 512, 8 * 2**20
"""Bounds of one step. It may exceed the bytes by one fetch of 32 messages."""
_FETCH = 32
TIMEOUT_S = 5.0
MAX_NOTES = 5
"""Offset gaps of one step that are logged one by one."""
METADATA_MS = 60_000
"""How often the source asks whether the topic has new partitions."""


class SpansTopicCheckpoint(msgspec.Struct, frozen=True):
    """The next offset of each partition, and the recent calls (`DeduplicationWindow.dump`)."""

    offsets: dict[int, int]
    recent: bytes = b""


class SpansTopic:
    """The topic as a polled source.

    `begin` says where to start in a topic without a checkpoint, `ahead_ms` is how far in the future a call may end, and
    `wait_s` how long one step waits for messages.
    """

    kind = "otel"

    def __init__(
        self, topic: str, genai: GenAIReader, deployments: Deployments, connect: Callable[[], Consumer], *,
        every_ms: int = 1_000, begin: Literal["start", "end"] = "end", ahead_ms: int = 2_500, wait_s: float = 0.2,
    ) -> None:  # fmt: skip
        self.name, self.every_ms = topic, every_ms
        self._genai, self._deployments, self._connect = genai, deployments, connect
        self._begin, self._ahead_ms, self._wait_s = begin, ahead_ms, wait_s
        self._consumer: Consumer | None = None
        self._position: dict[int, int] = {}
        self._partitions: set[int] = set()
        self._metadata_due_ms = 0
        self._recent: tuple[bytes, DeduplicationWindow] = (b"", DeduplicationWindow())
        self._committed: dict[int, int] = {}
        self._remarks = FirstRemarks()

    def collect(self, checkpoint: bytes | None, clock: Clock) -> PollResult:
        """Read the calls after a checkpoint. Raises Unavailable if the topic cannot be read."""
        before = msgspec.msgpack.decode(checkpoint, type=SpansTopicCheckpoint) if checkpoint else None
        try:
            return self._collect(before, clock)
        except KafkaException as error:
            self.close()
            hint = "Are its brokers reachable (`bootstrap`), and may this user read it?"
            raise Unavailable(f"The topic {self.name} cannot be read: {error.args[0].str()}", hint) from error

    def close(self) -> None:
        """Close the consumer. The next step opens another one."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer, self._position = None, {}

    def _collect(self, before: SpansTopicCheckpoint | None, clock: Clock) -> PollResult:
        consumer = self._open(clock)
        offsets = dict(before.offsets) if before else {}
        recent = self._recent_of(before.recent if before else b"")
        first_offsets = self._begin_offsets(consumer, offsets, first=before is None)
        refused: list[str] = []
        if first_offsets:  # They are stored before anything is read: a killed producer would begin elsewhere.
            return self._collected([], offsets | first_offsets, recent, more=True)
        self._commit(consumer, offsets)
        if offsets != self._position:
            refused += self._seek(consumer, offsets)
        messages, more, reset = self._messages(consumer)
        calls, notes = list[InferenceCall | AgentUsage](), list[str]()
        skipped, corrected, remarks = Counter[str](), Counter[str](), list[str]()
        read = partial(self._read, recent, clock.wall_ms() + self._ahead_ms)
        for message in messages:
            partition, offset = message.partition() or 0, message.offset() or 0
            if offset > self._position[partition]:
                notes.append(f"partition {partition} has no messages from {self._position[partition]} to {offset - 1}")
            self._position[partition] = offset + 1
            place, body = f"{self.name}, partition {partition}, offset {offset}", message.value() or b""
            for result in read_each([(place, body)], read, refused):
                calls += result.calls
                refused += [at_place(place, text) for text in result.refused]
                skipped.update(result.skipped)
                corrected.update(result.corrected)
                remarks += result.remarks
        offsets = dict(self._position)
        if reset:
            self._position = {}  # The next step seeks again, and reports what is missing.
        if len(notes) > MAX_NOTES:
            notes[MAX_NOTES:] = [f"{len(notes) - MAX_NOTES} more gaps in its offsets"]
        notes += self._remarks.new(remarks)
        collected = self._collected(calls, offsets, recent, more=more, refused=refused, notes=notes)
        return collected._replace(skipped=skipped, corrected=corrected)

    def _read(self, recent: DeduplicationWindow, latest_ms: int, body: bytes) -> SpanCalls:
        return self._genai.read_message(body, recent, latest_ms, json=is_json(body))

    def _collected(
        self, calls: list[InferenceCall | AgentUsage], offsets: dict[int, int], recent: DeduplicationWindow, *,
        more: bool,
        refused: list[str] | None = None, notes: list[str] | None = None,
    ) -> PollResult:  # fmt: skip
        workload_batches = list(batches(group_by_workload(calls, self._deployments, ORIGIN), self.name))
        kept = recent.dump()
        self._recent = (kept, recent)
        checkpoint = msgspec.msgpack.encode(SpansTopicCheckpoint(offsets, kept))
        return PollResult(
            workload_batches,
            checkpoint,
            more,
            refused or [],
            [*(notes or []), *self._deployments.new_notes()],
        )

    def _open(self, clock: Clock) -> Consumer:
        """Return the consumer, and update the list of partitions. Raises Unavailable if there is no such topic."""
        consumer = self._consumer = self._consumer or self._connect()
        if not self._partitions or not self._position or clock.monotonic_ms() >= self._metadata_due_ms:
            metadata = consumer.list_topics(self.name, timeout=TIMEOUT_S).topics[self.name]
            if metadata.error is not None or not metadata.partitions:
                hint = "Does the Collector's Kafka exporter write there? `topic` names it."
                raise Unavailable(f"The topic {self.name} is not there", hint)
            self._partitions = set(metadata.partitions)
            self._metadata_due_ms = clock.monotonic_ms() + METADATA_MS
        return consumer

    def _begin_offsets(self, consumer: Consumer, offsets: Mapping[int, int], *, first: bool) -> dict[int, int]:
        """Return the first offset of each partition without a checkpoint. A partition added later is read from its
        start.
        """
        first_offsets = {}
        for partition in self._partitions - offsets.keys():
            low, high = self._bounds(consumer, partition)
            first_offsets[partition] = high if first and self._begin == "end" else low
        return first_offsets

    def _seek(self, consumer: Consumer, offsets: Mapping[int, int]) -> list[str]:
        """Assign the partitions at these offsets, and return an error for each whose offset is no longer there."""
        errors = []
        position = {p: o for p, o in offsets.items() if p in self._partitions}
        for partition, offset in position.items():
            low, high = self._bounds(consumer, partition)
            if offset < low:
                error = f"offsets {offset} to {low - 1} were deleted by its retention before they were read"
            elif offset > high:
                error = (
                    f"it ends at offset {high}, before {offset}: the topic was made anew, and is read from its start"
                )
            else:
                continue
            errors.append(f"{self.name}, partition {partition}: {error}")
            position[partition] = low
        consumer.assign([TopicPartition(self.name, p, o) for p, o in position.items()])
        self._position = position
        return errors

    def _messages(self, consumer: Consumer) -> tuple[list[Message], bool, bool]:
        """Return new messages, whether there may be more, and whether an offset no longer exists."""
        messages: list[Message] = []
        size = 0
        while len(messages) < MAX_MESSAGES and size < MAX_BYTES:
            batch = consumer.consume(_FETCH, timeout=0.0 if messages else self._wait_s)
            for message in batch:
                error = message.error()
                if error is None:
                    messages.append(message)
                    size += len(message.value() or b"")
                elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                    return messages, False, True
                else:
                    raise KafkaException(error)
            if not batch:
                return messages, False, False
        return messages, True, False

    def _bounds(self, consumer: Consumer, partition: int) -> tuple[int, int]:
        low, high = consumer.get_watermark_offsets(TopicPartition(self.name, partition), timeout=TIMEOUT_S)
        return low, high

    def _recent_of(self, kept: bytes) -> DeduplicationWindow:
        """Return the recent calls as of a checkpoint.

        What a step adds is forgotten if its checkpoint is not stored.
        """
        known, recent = self._recent
        self._recent = (b"", DeduplicationWindow())
        return recent if kept and known == kept else DeduplicationWindow(kept)

    def _commit(self, consumer: Consumer, offsets: Mapping[int, int]) -> None:
        """Commit the offsets of a stored checkpoint, for people who watch the group's lag."""
        if offsets != self._committed:
            places = [TopicPartition(self.name, p, o) for p, o in offsets.items()]
            consumer.commit(offsets=places, asynchronous=True)
            self._committed = dict(offsets)
