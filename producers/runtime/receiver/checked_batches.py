"""Checks of the batches of a request: each must satisfy the event contract and fit into one message. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from contracts import codec, topics
from contracts.errors import BadInput
from contracts.events import Batch, Event
from producers.api import WorkloadBatch
from producers.runtime.event_sequence import source_of
from producers.runtime.receiver.problems import Rejected

MAX_MESSAGE_BYTES = 900_000
"""Largest message that is accepted. Kafka's clients refuse more than 1,000,000 bytes with headers."""
_NAMES = {topics.TOKENS: "tokens", topics.POWER: "power", topics.USAGE: "usage"}


class CheckedBatch(NamedTuple):
    """Batch that can be sent, with its encoded body and the event source that numbers it."""

    source: str
    cluster: str
    workload: str
    batch: Batch
    body: bytes


def check_batches(kind: str, node: str, batches: Sequence[WorkloadBatch]) -> list[CheckedBatch]:
    """Check and encode batches. Pure.

    Raises BadInput for a value that breaks the event contract, Rejected (413) for a batch too large for one message.
    """
    checked = []
    for cluster, workload, batch, _ in batches:
        topics.check_name("cluster", cluster)
        topics.check_name("workload", workload)
        source = source_of(f"{kind}-{_NAMES[codec.topic_of(batch)]}", cluster, node, workload)
        if len(source) > codec.MAX_SOURCE:
            raise BadInput(
                "workload", workload, f"makes a source of more than {codec.MAX_SOURCE} characters; shorten it"
            )
        body = codec.encode_batch(batch)
        headers = codec.headers_of(Event(source, 10**18, 10**14, cluster, workload, batch))  # With the longest numbers.
        size = len(body) + sum(len(name) + len(text) for name, text in headers)
        if size > MAX_MESSAGE_BYTES:
            raise Rejected(413, "too-large", f"{size:,} bytes of {workload!r} fit into no message; send fewer at once.")
        checked.append(CheckedBatch(source, cluster, workload, batch, body))
    return checked
