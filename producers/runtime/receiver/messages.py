"""Messages of a request: each batch must satisfy the event contract and fit into one message. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from contracts import codec, topics
from contracts.errors import BadInput
from contracts.events import Event
from producers.api import WorkloadBatch
from producers.runtime.delivery import encode_message
from producers.runtime.event_sequence import source_of
from producers.runtime.receiver.problems import Rejected
from producers.runtime.spool import Outgoing

MAX_MESSAGE_BYTES = 900_000
"""Largest message that is accepted. Kafka's clients refuse more than 1,000,000 bytes with headers."""
_NAMES = {topics.TOKENS: "tokens", topics.POWER: "power", topics.USAGE: "usage"}


_UNNUMBERED = 10**18, 10**14
"""Epoch and sequence number of a message until it is stored: the longest, so that it does not grow."""


def unnumbered_messages(kind: str, node: str, batches: Sequence[WorkloadBatch]) -> list[Outgoing]:
    """Check and encode batches. Their messages get their numbers when they are stored (`Outgoing.renumber`). Pure.

    Raises BadInput for a value that breaks the event contract, Rejected (413) for a batch too large for one message.
    """
    messages = []
    for cluster, workload, batch, _ in batches:
        topics.check_name("cluster", cluster)
        topics.check_name("workload", workload)
        source = source_of(f"{kind}-{_NAMES[codec.topic_of(batch)]}", cluster, node, workload)
        if len(source) > codec.MAX_SOURCE:
            raise BadInput(
                "workload", workload, f"makes a source of more than {codec.MAX_SOURCE} characters; shorten it"
            )
        message = encode_message(Event(source, *_UNNUMBERED, cluster, workload, batch))
        size = len(message.value) + sum(len(name) + len(text) for name, text in message.headers)
        if size > MAX_MESSAGE_BYTES:
            raise Rejected(413, "too-large", f"{size:,} bytes of {workload!r} fit into no message; send fewer at once.")
        messages.append(message)
    return messages
