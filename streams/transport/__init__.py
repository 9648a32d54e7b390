"""Two transports from Faust's consumer to the stream worker. Group membership and lifecycle are Faust's in both.

`stock` reads through Faust's conductor, channels and agents, message by message, like any Faust application. `lean`
passes on the lists that aiokafka fetched. Both are `streams.log_reader.LogReader`s. The lean one overrides private
parts of Faust and aiokafka, so it is used only with versions that it was tested with.
"""

from __future__ import annotations

import inspect
import logging
from importlib.metadata import version

import aiokafka.consumer.fetcher as aiokafka_fetcher
import faust
from faust.transport import drivers
from faust.transport.consumer import Consumer

from contracts.errors import BadSetting
from streams.transport.consumer import LookUpOffset
from streams.transport.lean import SCHEME, LeanReader
from streams.transport.stock import StockReader

log = logging.getLogger("wattlog.stream")

STOCK_SCHEME = "kafka"
TESTED_VERSIONS = {"faust-streaming": ("0.15.3",), "aiokafka": ("0.14.0",)}
"""Versions that the lean transport was tested with."""
_PRIVATE_PARTS = (
    (Consumer._drain_messages, ("self", "fetcher")),
    (Consumer._filter_tps_with_pending_acks, ("self", "topics")),
    (Consumer._new_offset, ("self", "tp")),
    (Consumer.stop_flow, ("self",)),
    (Consumer.on_partitions_revoked, ("self", "revoked")),
    (aiokafka_fetcher.Fetcher.fetched_records, ("self", "partitions", "timeout", "max_records")),
    (aiokafka_fetcher.Fetcher._create_fetch_waiter, ("self",)),
    (aiokafka_fetcher.PartitionRecords._consumer_record, ("self", "tp", "record")),
)
"""Private functions that the lean transport overrides or calls, with their parameters."""


def misfit() -> str | None:
    """Return the reason why the lean transport cannot be used with the installed versions; None if it can."""
    for name, known in TESTED_VERSIONS.items():
        if (installed := version(name)) not in known:
            return f"it fits {name} {' or '.join(known)}, and this is {installed}"
    for part, parameters in _PRIVATE_PARTS:
        if (actual := tuple(inspect.signature(part).parameters)) != parameters:
            return f"{part.__qualname__} takes {', '.join(actual)} here, not {', '.join(parameters)}"
    return None


def scheme(transport: str) -> str:
    """Return the scheme of the broker URLs for the setting `transport` (auto, lean or stock).

    If the lean transport does not fit, `auto` falls back to `stock` with a warning, and `lean` raises BadSetting.
    """
    if transport == "stock":
        return STOCK_SCHEME
    reason = misfit()
    if reason is None:
        drivers.TRANSPORTS.aliases[SCHEME] = "streams.transport.lean:LeanTransport"
        return SCHEME
    if transport == "lean":
        raise BadSetting("transport", transport, f"{reason}; install those versions, or choose `auto` or `stock`")
    log.warning(
        "the lean transport is not used: %s. Reading goes on through Faust's own, at more CPU a message", reason
    )
    return STOCK_SCHEME


def reader(app: faust.App, look_up: LookUpOffset) -> LeanReader | StockReader:
    """Return the reader that belongs to the scheme of an app's brokers."""
    return (LeanReader if app.conf.broker[0].scheme == SCHEME else StockReader)(app, look_up)
