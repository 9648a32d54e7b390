"""The Faust shell: consumer group, flow control and lifecycle. The work itself is in `stream_worker` and `core`.

Running faust-streaming 0.15.3 showed that the settings below are necessary (docs/adr/0009).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from functools import partial
from pathlib import Path
from typing import Any

import faust
import faust.auth
from aiokafka.errors import NoOffsetForPartitionError, OffsetOutOfRangeError

from contracts import topics
from contracts.codec import Headers
from contracts.errors import Unavailable
from contracts.settings import Settings
from streams import claim_notices, dead_letters, kafka_admin, transport
from streams.consumer_group import MAX_POLL_S, STOP_WAIT_S, heartbeat_ms
from streams.core.attribution.policy import Policy
from streams.core.decoding import RejectedMessage
from streams.core.offset_gaps import OffsetGap, loss_error
from streams.log_reader import OffsetLookup
from streams.stream_worker import StreamWorker
from warehouse.sink.sink import Sink

log = logging.getLogger("wattlog.stream")

STALLED_MS = 300_000
"""A worker that has messages waiting but neither reads nor stores for this long ends itself, to be started again."""
REQUEST_WAIT_S, REBALANCE_WAIT_S = 90.0, 60.0
"""Faust's own defaults."""
METADATA_MAX_AGE_MS = 5_000
"""Maximum age of a worker's topic metadata. aiokafka does not retry where no broker answered, or where the topics did
not exist yet. A worker that joined then owns nothing until the next refresh, after 5 minutes by Faust's default."""


class FaustWorker:
    """One Faust worker: `start`, then wait for `crashed` or call `stop`. `kafka` is librdkafka's configuration."""

    def __init__(
        self,
        settings: Settings,
        kafka: dict[str, Any],
        sink: Sink,
        policy: Policy,
        log_id: str,
        datadir: Path,
        *,
        accept_loss: bool = False,
        stop_wait_s: float = STOP_WAIT_S,
    ) -> None:
        self._settings, self._kafka, self._stop_wait_s = settings, kafka, stop_wait_s
        self.app = _app(settings, datadir)
        self._reader = transport.reader(self.app, self._look_up)
        self.stream_worker = StreamWorker(
            settings=settings,
            sink=sink,
            policy=policy,
            log_id=log_id,
            publish=self._dead_letter,
            reader=self._reader,
            clock=_now_ms,
            accept_loss=accept_loss,
        )
        self._reader.feed(topics.JOINED, self.stream_worker.put)
        self._tasks: list[asyncio.Task[None]] = []
        self.assigned = asyncio.Event()
        self.crashed: asyncio.Future[BaseException] | None = None
        self.app.on_partitions_assigned.connect(self._on_assigned, weak=False)
        self.app.on_partitions_revoked.connect(self._on_revoked, weak=False)

    def _look_up(self, topic: str, partition: int, offset: int) -> OffsetLookup:
        return kafka_admin.look_up_offset(self._kafka, self._settings.kafka_group, topic, partition, offset)

    async def _on_assigned(self, _app: Any, assigned: Any, **_: Any) -> None:
        numbers = {tp.partition for tp in assigned if tp.topic in topics.JOINED}
        begin = await asyncio.to_thread(kafka_admin.committed, self._kafka, self._settings.kafka_group, numbers)
        # A worker that got none may have been told of no topic yet, and then there is nothing to count.
        ask = partial(kafka_admin.partition_count, topics.JOINED, self._kafka, self._settings.kafka_bootstrap)
        await self.stream_worker.assign(numbers, begin, of=await asyncio.to_thread(ask) if numbers else 0)
        self.assigned.set()

    async def _on_revoked(self, _app: Any, revoked: Any, **_: Any) -> None:
        await self.stream_worker.revoke()
        self._reader.forget()

    async def _dead_letter(self, rejected: RejectedMessage, partition: int) -> None:
        place = f"{rejected.message.topic}/{partition}"
        headers, value = dead_letters.dead_letter(rejected, place, _now_ms())
        # With a key: aiokafka refuses a message with neither key nor value, and a tombstone has no value.
        await self.app.producer.send_and_wait(topics.DEADLETTER, place.encode(), value, None, None, headers)

    async def start(self) -> None:
        """Join the group. Returns when Faust runs; `assigned` is set once partitions are owned."""
        self.crashed = asyncio.get_running_loop().create_future()
        await self.app.start()
        for loop in (self.stream_worker.ingest_forever(), self.stream_worker.store_forever(), self._watch()):
            task = asyncio.create_task(loop)
            task.add_done_callback(self._on_end)
            self._tasks.append(task)
        self._tasks.append(asyncio.create_task(claim_notices.publish_forever(self.stream_worker, self._send_notice)))

    async def _send_notice(self, key: bytes, headers: Headers, value: bytes) -> None:
        await self.app.producer.send_and_wait(topics.ALERTS, key, value, None, None, headers)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.crash(error)

    def crash(self, error: BaseException) -> None:
        """End the worker with this error, unless an earlier one ended it."""
        if self.crashed is not None and not self.crashed.done():
            self.crashed.set_result(error)

    async def _watch(self) -> None:
        """Raise the error of a worker that Faust ended, or that is stalled."""
        while True:
            await asyncio.sleep(1)
            if self.app.crashed:
                raise await self._explained(self.app.crash_reason or RuntimeError("Faust ended without a reason"))
            if self.stream_worker.stalled_ms() > STALLED_MS:
                raise TimeoutError(f"no message was read or stored for {STALLED_MS} ms with messages waiting")

    async def _explained(self, reason: BaseException) -> BaseException:
        """Return Faust's error, replaced where it means loss or a new partition.

        Retention may have deleted messages that a running worker had not read. Or a topic got a partition for which the
        group has no offset.
        """
        if isinstance(reason, NoOffsetForPartitionError):
            place, group = reason.args[0], self._settings.kafka_group
            hint = "Start all workers again: the first begins it at its start."
            return Unavailable(f"group {group} has no offset on {place.topic} partition {place.partition}", hint)
        if isinstance(reason, OffsetOutOfRangeError):
            for place, offset in reason.args[0].items():
                log_at = await asyncio.to_thread(self._look_up, place.topic, place.partition, offset)
                if log_at.earliest > offset:
                    return loss_error(OffsetGap(place.topic, place.partition, offset, log_at.earliest), log_at.earliest)
        return reason

    async def stop(self) -> None:
        """Store what is final, commit its offsets, leave the group; each step within `stop_wait_s`."""
        try:
            await asyncio.wait_for(self.stream_worker.store_once(), self._stop_wait_s)
        except TimeoutError:
            log.warning("stopped before all was stored: the next start goes on at the checkpoint, and its due hours")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.app.stop(), self._stop_wait_s)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _app(settings: Settings, datadir: Path) -> faust.App:
    session_s = settings.session_timeout_ms / 1000
    scheme = transport.scheme(settings.transport)
    return faust.App(
        settings.kafka_group,
        broker=[f"{scheme}://{b}" for b in settings.kafka_bootstrap.split(",")],
        broker_credentials=_credentials(settings),
        store="memory://",
        datadir=datadir,
        web_enabled=False,
        value_serializer="raw",
        key_serializer="raw",
        topic_allow_declare=False,  # `wattlog migrate` creates topics.
        topic_disable_leader=True,
        consumer_auto_offset_reset="none",  # Else an offset out of range drops messages silently.
        consumer_metadata_max_age_ms=METADATA_MAX_AGE_MS,
        stream_wait_empty=False,  # Else delayed acknowledgements deadlock a rebalance.
        broker_commit_interval=1.0,
        broker_max_poll_interval=MAX_POLL_S,
        broker_session_timeout=session_s,
        broker_request_timeout=max(REQUEST_WAIT_S, session_s),  # Faust refuses a shorter one.
        broker_rebalance_timeout=max(REBALANCE_WAIT_S, session_s),
        broker_heartbeat_interval=heartbeat_ms(settings) / 1000,
        producer_max_request_size=dead_letters.MAX_BYTES,  # Dead letters are the largest that it sends.
    )


def _credentials(settings: Settings) -> Any:
    if settings.kafka_security_protocol == "PLAINTEXT":
        return None
    context = None
    if settings.kafka_security_protocol in ("SSL", "SASL_SSL"):
        context = ssl.create_default_context(cafile=str(settings.kafka_ca_file) if settings.kafka_ca_file else None)
    if settings.kafka_security_protocol == "SSL":
        return faust.auth.SSLCredentials(context=context)
    password = settings.kafka_password.get_secret_value() if settings.kafka_password else ""
    return faust.auth.SASLCredentials(
        username=settings.kafka_username,
        password=password,
        mechanism=settings.kafka_sasl_mechanism,
        ssl_context=context,
    )
