"""Watch for notices that another sender took this producer's numbers: the source begins a new epoch, and says so.

A forged source, or a second producer under the same name, can send numbers before this producer does. A worker then
keeps the genuine messages as dead letters, or takes them for copies, and publishes a notice
(`contracts.number_claims`). A new epoch has numbers that no sender has used, so later messages count.

A thread reads the notices at the start and once a minute: the positions on the topic, and messages only where there are
new ones. It needs Read on wattlog.alerts.v1; without, it says so, and the producer goes on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from prometheus_client import CollectorRegistry, Counter

from contracts import topics
from contracts.number_claims import NumberClaim, read_claim
from producers.runtime.event_sequence import Sequencer
from producers.runtime.rare_log import RareLog

log = logging.getLogger(__name__)

EVERY_S = 60.0
TIMEOUT_S = 5.0
"""Longest wait for an answer of the brokers."""
MAX_READ = 1_000
"""Newest notices of a partition that are read at once; older ones are skipped."""
MAX_KEPT = 10_000
"""Notices kept for sources that this run has not numbered yet; beyond, the oldest are forgotten."""


class ClaimWatch:
    """Thread that reads notices, and what they say of sources. `kafka` is librdkafka's configuration."""

    def __init__(self, kafka: Mapping[str, Any], registry: CollectorRegistry, *, every_s: float = EVERY_S) -> None:
        self._kafka, self._every_s = dict(kafka), every_s
        self._notices = Counter(
            "wattlog_producer_numbers_taken", "Notices that another sender took numbers of a source", registry=registry
        )
        self._positions: dict[int, int] = {}
        """Offset to read next, by partition."""
        self._claims: dict[tuple[str, int], NumberClaim] = {}
        """Notices that no source has heeded, by source and epoch."""
        self._lock, self._stop, self._log = threading.Lock(), threading.Event(), RareLog(log)
        self._thread = threading.Thread(target=self._run, name="claim-watch", daemon=True)

    def __enter__(self) -> ClaimWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(2 * TIMEOUT_S)

    def add(self, claim: NumberClaim) -> None:
        """Note a notice."""
        with self._lock:
            self._claims[claim.source, claim.epoch] = claim
            if len(self._claims) > MAX_KEPT:
                del self._claims[next(iter(self._claims))]

    def heed(self, numbers: Sequencer, now_ms: int) -> None:
        """Begin a new epoch for each source whose numbers of this epoch were taken; log and count each notice.

        Call it from the thread that numbers events, before it numbers the next ones.
        """
        if not self._claims:
            return
        with self._lock:
            known = [claim for claim in self._claims.values() if claim.source in numbers]
            for claim in known:
                del self._claims[claim.source, claim.epoch]
        for claim in known:
            self._notices.inc()
            place = f"{claim.source}: another sender took number {claim.seq} of epoch {claim.epoch} on {claim.topic}"
            if not claim.compared:
                place = f"{claim.source}: number {claim.seq} of epoch {claim.epoch} on {claim.topic} arrived twice"
            if claim.epoch == numbers.epoch_of(claim.source):
                epoch = numbers.begin_epoch(claim.source, now_ms)
                log.error("%s; epoch %d begins, so that what follows counts (docs/kafka-access.md)", place, epoch)
            else:
                log.error("%s, which is not this one; this one goes on (docs/kafka-access.md)", place)

    def _run(self) -> None:
        while True:
            try:
                self.read()
            except Exception as error:  # Of any class: a producer sends without notices, too.
                self._log.write(
                    logging.WARNING,
                    f"{topics.ALERTS} cannot be read, so that this producer does not learn of taken numbers: "
                    f"{error.args[0].str() if isinstance(error, KafkaException) else error}",
                )
            if self._stop.wait(self._every_s):
                return

    def read(self) -> None:
        """Read the notices since the last call; at the first call, the newest MAX_READ of each partition."""
        consumer = Consumer({
            **self._kafka, "group.id": "wattlog-notices", "enable.auto.commit": False, "auto.offset.reset": "latest",
            "client.id": "wattlog-notices", "log_level": 0,
        })  # fmt: skip
        try:
            topic = consumer.list_topics(topics.ALERTS, timeout=TIMEOUT_S).topics[topics.ALERTS]
            if topic.error is not None:
                raise KafkaException(topic.error)
            ends: dict[int, int] = {}
            for partition in topic.partitions:
                place = TopicPartition(topics.ALERTS, partition)
                low, end = consumer.get_watermark_offsets(place, timeout=TIMEOUT_S)
                position = max(low, end - MAX_READ, self._positions.get(partition, 0))
                # A position beyond the end is of a topic that was deleted and created again.
                self._positions[partition] = position if position <= end else max(low, end - MAX_READ)
                if self._positions[partition] < end:
                    ends[partition] = end
            if ends:
                self._read_to(consumer, ends)
        finally:
            consumer.close()

    def _read_to(self, consumer: Consumer, ends: dict[int, int]) -> None:
        consumer.assign([TopicPartition(topics.ALERTS, p, self._positions[p]) for p in ends])
        while any(self._positions[p] < end for p, end in ends.items()) and not self._stop.is_set():
            message = consumer.poll(TIMEOUT_S)
            if message is None:
                return
            if (error := message.error()) is not None:
                if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:  # An assigned partition needs no group.
                    continue
                raise KafkaException(error)
            partition, offset = message.partition(), message.offset()
            if partition is not None and offset is not None:
                self._positions[partition] = offset + 1
            if (claim := read_claim(message.value())) is not None:
                self.add(claim)
