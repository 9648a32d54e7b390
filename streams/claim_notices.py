"""Notices to producers whose numbers another message claims: published on wattlog.alerts.v1, and logged by name.

They are published apart from reading and storing: a broker that refuses them holds up nothing, and the ledger does not
depend on them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from contracts import topics
from contracts.codec import Headers
from contracts.number_claims import NumberClaim
from streams import metrics
from streams.stream_worker import StreamWorker

log = logging.getLogger("wattlog.stream")

LOOK_S = 1.0
SEND_S = 10.0
"""How long a notice may take: then the next one of its run, a minute later, is tried."""

Send = Callable[[bytes, Headers, bytes], Awaitable[None]]
"""Publishes (key, headers, value) on wattlog.alerts.v1."""


async def publish_forever(worker: StreamWorker, send: Send | None = None) -> None:
    """Log and publish the claims of a worker's partitions. Without `send`, only log them."""
    while True:
        await asyncio.sleep(LOOK_S)
        for claim in worker.take_claims():
            log.log(logging.WARNING if claim.compared else logging.INFO, "%s", _text(claim))
            metrics.NUMBERS_TAKEN.inc()
            if send is not None:
                await _publish(claim, send)


async def _publish(claim: NumberClaim, send: Send) -> None:
    try:
        await asyncio.wait_for(send(*claim.message()), SEND_S)
    except Exception as error:  # Of any class: of the client, of the broker. The ledger needs no notice.
        log.error(
            "the producer of %s gets no notice that its numbers are taken: %s cannot be written (%s: %s)",
            claim.source, topics.ALERTS, type(error).__name__, error,
        )  # fmt: skip


def _text(claim: NumberClaim) -> str:
    place = f"number {claim.seq} of {claim.source}, run {claim.epoch}, on {claim.topic}"
    if claim.compared:
        return f"{place} was taken by another message: its second message is a dead letter"
    return f"{place} was read before, and its contents are not remembered: its second message counts as a copy"
