"""The Faust shell: consumer group, flow control and lifecycle. Everything else is in `stream_worker` and `core`.

What the settings below are for was found by running faust-streaming 0.15.3 (DESIGN.md, Streams).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from pathlib import Path
from typing import Any

import faust
import faust.auth
from aiokafka.errors import NoOffsetForPartitionError, OffsetOutOfRangeError

from contracts import topics
from contracts.codec import Headers, envelope
from contracts.errors import Unavailable
from contracts.settings import Settings
from streams import kafka_admin as event_log
from streams import transport
from streams.core.attribution.policy import Policy
from streams.core.decoding import RejectedMessage
from streams.core.offset_gaps import OffsetGap, loss_error
from streams.log_reader import OffsetLookup
from streams.stream_worker import StreamWorker
from warehouse.sink.sink import Sink

log = logging.getLogger("wattlog.stream")

STALLED_MS = 300_000
"""A worker that holds unread messages but neither reads nor stores for this long ends itself, to be started again."""
STOP_WAIT_S = 20.0
MAX_POLL_S = 86_400.0
"""A worker that waits for the warehouse does not read, and is not to lose its partitions for it: whoever took them over
would wait as well. A worker that stands still for no such reason ends itself (STALLED_MS)."""
HEARTBEATS_A_SESSION = 6
"""Signs of life within `session_timeout_ms`; Kafka's documentation asks for 3 at least."""
METADATA_MAX_AGE_MS = 5_000
"""How old what a worker knows of the topics may be. aiokafka does not ask again where no broker answered, or the
topics were not there yet: a worker that joined then holds nothing until the next time, 5 minutes as Faust has it."""
_LETTER_OWN_BYTES = 16_384
"""What a dead letter may need beside the message: envelope and reason."""


class FaustWorker:
    """One Faust worker. `start`, then wait for `crashed` or call `stop`. `kafka` is librdkafka's configuration."""

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
    ) -> None:
        self._settings, self._kafka = settings, kafka
        self.app = _app(settings, datadir)
        self._reader = transport.reader(self.app, self._look)
        self.stream_worker = StreamWorker(
            settings, sink, policy, log_id, self._dead_letter, self._reader, _now_ms, accept_loss=accept_loss
        )
        self._reader.feed(topics.JOINED, self.stream_worker.put)
        self._tasks: list[asyncio.Task[None]] = []
        self.assigned = asyncio.Event()
        self.crashed: asyncio.Future[BaseException] | None = None
        self.app.on_partitions_assigned.connect(self._on_assigned, weak=False)
        self.app.on_partitions_revoked.connect(self._on_revoked, weak=False)

    def _look(self, topic: str, partition: int, offset: int) -> OffsetLookup:
        return event_log.look_up_offset(self._kafka, self._settings.kafka_group, topic, partition, offset)

    async def _on_assigned(self, _app: Any, assigned: Any, **_: Any) -> None:
        numbers = {tp.partition for tp in assigned if tp.topic in topics.JOINED}
        begin = await asyncio.to_thread(event_log.committed, self._kafka, self._settings.kafka_group, numbers)
        await self.stream_worker.assign(numbers, begin)
        self.assigned.set()

    async def _on_revoked(self, _app: Any, revoked: Any, **_: Any) -> None:
        await self.stream_worker.revoke()
        self._reader.forget()

    async def _dead_letter(self, rejected: RejectedMessage, partition: int) -> None:
        place = f"{rejected.message.topic}/{partition}"
        headers, value = dead_letter(rejected, place, _now_ms())
        # With a key, because aiokafka refuses a message that has neither key nor value, and a tombstone has no value.
        await self.app.producer.send_and_wait(topics.DEADLETTER, place.encode(), value, None, None, headers)

    async def start(self) -> None:
        """Join the group; returns when Faust runs (`assigned` says when partitions are held)."""
        self.crashed = asyncio.get_running_loop().create_future()
        await self.app.start()
        for work in (self.stream_worker.ingest_forever(), self.stream_worker.store_forever(), self._watch()):
            task = asyncio.create_task(work)
            task.add_done_callback(self._ended)
            self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.crash(error)

    def crash(self, error: BaseException) -> None:
        """End with this error, unless another came before."""
        if self.crashed is not None and not self.crashed.done():
            self.crashed.set_result(error)

    async def _watch(self) -> None:
        """End a worker that Faust gave up on, or that stands still with work to do."""
        while True:
            await asyncio.sleep(1)
            if self.app.crashed:
                raise await self._named(self.app.crash_reason or RuntimeError("Faust ended without saying why"))
            if self.stream_worker.stalled_ms() > STALLED_MS:
                raise TimeoutError(f"no message was read or stored for {STALLED_MS} ms with messages waiting")

    async def _named(self, reason: BaseException) -> BaseException:
        """What ended Faust, in our words where retention overtook a worker that runs (that is loss like any other), and
        where a topic got a partition of which the group has no offset."""
        if isinstance(reason, NoOffsetForPartitionError):
            place, group = reason.args[0], self._settings.kafka_group
            hint = "Start all workers again: the first begins it at its start."
            return Unavailable(f"group {group} has no offset on {place.topic} partition {place.partition}", hint)
        if isinstance(reason, OffsetOutOfRangeError):
            for place, offset in reason.args[0].items():
                found = await asyncio.to_thread(self._look, place.topic, place.partition, offset)
                if found.earliest > offset:
                    return loss_error(OffsetGap(place.topic, place.partition, offset, found.earliest), found.earliest)
        return reason

    async def stop(self) -> None:
        """Store what is final, release its offsets, leave the group. Bounded in time."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stream_worker.store_once(), STOP_WAIT_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.app.stop(), STOP_WAIT_S)


def dead_letter(rejected: RejectedMessage, place: str, now_ms: int) -> tuple[Headers, bytes | None]:
    """(headers, value) of a message that cannot be read: all of it, and the reason beside it.

    What is larger than the topic takes goes without its body: `ce_subject` and `ce_id` say where on the log it is.
    """
    message, error = rejected
    headers = envelope(
        type_=topics.DEADLETTER, source=f"wattlog://stream/{place}", id_=str(message.offset), subject=place,
        t_ms=now_ms, content_type="application/octet-stream",
    )  # fmt: skip
    headers += [("wattlog_field", error.field.encode()), ("wattlog_reason", str(error).encode())]
    original = [(f"original_{k}", v or b"") for k, v in dict(message.headers or ()).items()]
    size = len(message.value or b"") + sum(len(k) + len(v) + 10 for k, v in original)
    if size > event_log.DEADLETTER_BYTES - _LETTER_OWN_BYTES:
        return [*headers, ("wattlog_omitted_bytes", str(size).encode())], None
    return headers + original, message.value


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _app(settings: Settings, datadir: Path) -> faust.App:
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
        topic_allow_declare=False,  # Topics are made by `wattlog migrate`.
        topic_disable_leader=True,
        consumer_auto_offset_reset="none",  # Else an offset out of range drops messages silently.
        consumer_metadata_max_age_ms=METADATA_MAX_AGE_MS,
        stream_wait_empty=False,  # Else held acknowledgements deadlock a rebalance.
        broker_commit_interval=1.0,
        broker_max_poll_interval=MAX_POLL_S,
        broker_session_timeout=settings.session_timeout_ms / 1000,
        broker_heartbeat_interval=settings.session_timeout_ms / 1000 / HEARTBEATS_A_SESSION,
        producer_max_request_size=event_log.DEADLETTER_BYTES,  # Dead letters are all that it sends.
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
