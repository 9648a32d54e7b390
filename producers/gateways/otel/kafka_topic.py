"""Spans from the topic that a Collector's Kafka exporter writes to.

The mark is each partition's next offset, with the names of what came lately: both are kept with the events that were
made, in one transaction, so a producer that is killed reads on from there, and nothing is counted twice. Partitions are
assigned, not subscribed to: whose turn it is does not depend on who else is there. The group's offsets are committed
too, behind the marks, for those who watch its lag; nothing reads them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from contracts.errors import BadInput, Unavailable
from producers.gateways.calls import AgentUsage, InferenceCall, batches, group_by_workload
from producers.gateways.deployments import Deployments
from producers.gateways.otel.genai import ORIGIN, GenAIReader
from producers.gateways.otel.otlp import is_json, spans
from producers.runtime.clock import Clock
from producers.runtime.deduplication import Recent
from producers.runtime.poll_loop import Collected

MAX_MESSAGES, MAX_BYTES = 512, 8 * 2**20
"""Read in one step; of bytes one fetch of 32 messages more."""
_FETCH = 32
TIMEOUT_S = 5.0
MAX_NOTES = 5
"""Holes in the offsets of one step that are told one by one."""
LOOK_MS = 60_000
"""How often it is asked whether the topic has got more partitions."""


class SpansTopicCheckpoint(msgspec.Struct, frozen=True):
    """The next offset of each partition, and what came lately (`Recent.dump`)."""

    offsets: dict[int, int]
    recent: bytes = b""


class SpansTopic:
    """See the module: a `producers.runtime.poll_loop.Source`. `begin`: where a topic that no mark knows is read from,
    `ahead_ms` how far ahead an end may lie, `wait_s` how long one look waits for messages."""

    kind = "otel"

    def __init__(
        self, topic: str, genai: GenAIReader, deployments: Deployments, connect: Callable[[], Consumer], *,
        every_ms: int = 1_000, begin: Literal["start", "end"] = "end", ahead_ms: int = 2_500, wait_s: float = 0.2,
    ) -> None:  # fmt: skip
        self.name, self.every_ms = topic, every_ms
        self._genai, self._deployments, self._connect = genai, deployments, connect
        self._begin, self._ahead_ms, self._wait_s = begin, ahead_ms, wait_s
        self._consumer: Consumer | None = None
        self._at: dict[int, int] = {}
        self._partitions: set[int] = set()
        self._look_ms = 0
        self._recent: tuple[bytes, Recent] = (b"", Recent())
        self._committed: dict[int, int] = {}

    def collect(self, mark: bytes | None, clock: Clock) -> Collected:
        """Raises Unavailable where the topic cannot be read."""
        before = msgspec.msgpack.decode(mark, type=SpansTopicCheckpoint) if mark else None
        try:
            return self._collect(before, clock)
        except KafkaException as error:
            self.close()
            hint = "Are its brokers reachable (`bootstrap`), and may this user read it?"
            raise Unavailable(f"The topic {self.name} cannot be read: {error.args[0].str()}", hint) from error

    def close(self) -> None:
        """Let go of the consumer; the next look makes another."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer, self._at = None, {}

    def _collect(self, before: SpansTopicCheckpoint | None, clock: Clock) -> Collected:
        consumer = self._open(clock)
        offsets = dict(before.offsets) if before else {}
        recent = self._recent_of(before.recent if before else b"")
        begun = self._begun(consumer, offsets, first=before is None)
        refused: list[str] = []
        if begun:  # Where it begins is kept first: were it killed now, it would begin elsewhere.
            return self._collected([], offsets | begun, recent, more=True)
        self._commit(consumer, offsets)
        if offsets != self._at:
            refused += self._seek(consumer, offsets)
        messages, more, gone = self._messages(consumer)
        calls, skipped, notes = list[InferenceCall | AgentUsage](), Counter[str](), list[str]()
        for message in messages:
            partition, offset = message.partition() or 0, message.offset() or 0
            if offset > self._at[partition]:
                notes.append(f"partition {partition} has no messages from {self._at[partition]} to {offset - 1}")
            self._at[partition] = offset + 1
            try:
                body = message.value() or b""
                found = spans(body, self._genai.wanted, json=is_json(body))
            except BadInput as error:
                refused.append(f"{self.name}, partition {partition}, offset {offset}: {error}")
                continue
            read = self._genai.read(found, recent, clock.wall_ms() + self._ahead_ms)
            calls += read.calls
            refused += [f"{self.name}, partition {partition}, offset {offset}: {why}" for why in read.refused]
            skipped.update(read.skipped)
        offsets = dict(self._at)
        if gone:
            self._at = {}  # The next look seeks anew, and tells what is missing.
        if len(notes) > MAX_NOTES:
            notes[MAX_NOTES:] = [f"{len(notes) - MAX_NOTES} more holes in its offsets"]
        return self._collected(calls, offsets, recent, more=more, refused=refused, notes=notes, skipped=skipped)

    def _collected(
        self, calls: list[InferenceCall | AgentUsage], offsets: dict[int, int], recent: Recent, *, more: bool,
        refused: list[str] | None = None, notes: list[str] | None = None, skipped: Mapping[str, int] | None = None,
    ) -> Collected:  # fmt: skip
        made = list(batches(group_by_workload(calls, self._deployments, ORIGIN), self.name))
        unmatched = [
            f"no rule says who serves {u}: its requests show as unmetered" for u in self._deployments.new_unmatched()
        ]
        kept = recent.dump()
        self._recent = (kept, recent)
        mark = msgspec.msgpack.encode(SpansTopicCheckpoint(offsets, kept))
        return Collected(made, mark, more, refused or [], [*(notes or []), *unmatched], skipped or {})

    def _open(self, clock: Clock) -> Consumer:
        """The consumer, and which partitions there are. Raises Unavailable where there is no such topic."""
        consumer = self._consumer = self._consumer or self._connect()
        if not self._partitions or not self._at or clock.monotonic_ms() >= self._look_ms:
            found = consumer.list_topics(self.name, timeout=TIMEOUT_S).topics[self.name]
            if found.error is not None or not found.partitions:
                hint = "Does the Collector's Kafka exporter write there? `topic` names it."
                raise Unavailable(f"The topic {self.name} is not there", hint)
            self._partitions = set(found.partitions)
            self._look_ms = clock.monotonic_ms() + LOOK_MS
        return consumer

    def _begun(self, consumer: Consumer, offsets: Mapping[int, int], *, first: bool) -> dict[int, int]:
        """Where partitions begin that no mark knows. One that came later is read from its start."""
        begun = {}
        for partition in self._partitions - offsets.keys():
            low, high = self._bounds(consumer, partition)
            begun[partition] = high if first and self._begin == "end" else low
        return begun

    def _seek(self, consumer: Consumer, offsets: Mapping[int, int]) -> list[str]:
        """Read on from these offsets; what is wrong where retention or a new topic left nothing there."""
        wrong = []
        at = {p: o for p, o in offsets.items() if p in self._partitions}
        for partition, offset in at.items():
            low, high = self._bounds(consumer, partition)
            if offset < low:
                lost = f"offsets {offset} to {low - 1} were deleted by its retention before they were read"
            elif offset > high:
                lost = f"it ends at offset {high}, before {offset}: the topic was made anew, and is read from its start"
            else:
                continue
            wrong.append(f"{self.name}, partition {partition}: {lost}")
            at[partition] = low
        consumer.assign([TopicPartition(self.name, p, o) for p, o in at.items()])
        self._at = at
        return wrong

    def _messages(self, consumer: Consumer) -> tuple[list[Message], bool, bool]:
        """What has come, bounded; whether there may be more; and whether an offset is no longer there."""
        found: list[Message] = []
        size = 0
        while len(found) < MAX_MESSAGES and size < MAX_BYTES:
            came = consumer.consume(_FETCH, timeout=0.0 if found else self._wait_s)
            for message in came:
                error = message.error()
                if error is None:
                    found.append(message)
                    size += len(message.value() or b"")
                elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                    return found, False, True
                else:
                    raise KafkaException(error)
            if not came:
                return found, False, False
        return found, True, False

    def _bounds(self, consumer: Consumer, partition: int) -> tuple[int, int]:
        low, high = consumer.get_watermark_offsets(TopicPartition(self.name, partition), timeout=TIMEOUT_S)
        return low, high

    def _recent_of(self, kept: bytes) -> Recent:
        """What came lately, as of a mark: what this step adds is forgotten with it, should it not be kept."""
        known, recent = self._recent
        self._recent = (b"", Recent())
        return recent if kept and known == kept else Recent(kept)

    def _commit(self, consumer: Consumer, offsets: Mapping[int, int]) -> None:
        """For those who watch the group: what a mark holds has been read."""
        if offsets != self._committed:
            places = [TopicPartition(self.name, p, o) for p, o in offsets.items()]
            consumer.commit(offsets=places, asynchronous=True)
            self._committed = dict(offsets)
