"""A worker process for test_faust.py: raw bytes of two co-partitioned topics, through one transport.

It reports events as JSON lines on stdout: `ready`, `assigned`, `revoked`, `got`. The settings are those of
`streams/app.py`. Acknowledging is optional, to show the fate of an unacknowledged message after a kill.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from typing import Any

import faust

from streams import transport
from streams.core.decoding import LogMessage
from streams.log_reader import OffsetLookup


def emit(event: str, **fields: Any) -> None:
    """Write one line to stdout. The parent reads it at once."""
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def build(options: argparse.Namespace) -> faust.App:
    """The Faust app: raw bytes in, offsets from the group alone."""
    app = faust.App(
        options.group,
        broker=f"{transport.scheme(options.transport)}://{options.bootstrap}",
        datadir=options.data,  # otherwise Faust creates a folder in the working directory
        store="memory://",
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="none",
        stream_wait_empty=False,
        key_serializer="raw",
        value_serializer="raw",
        broker_commit_interval=0.2,
        broker_heartbeat_interval=0.5,
        broker_session_timeout=2.0,
        stream_recovery_delay=options.resume,
    )
    reader = transport.reader(app, _nothing_is_asked)

    async def put(topic: str, partition: int, messages: Sequence[LogMessage], begin: int | None) -> None:
        for message in messages:
            emit("got", topic=topic, partition=partition, offset=message.offset, value=(message.value or b"").hex())
        if not options.hold:
            reader.commit({(topic, partition): messages[-1].offset + 1})

    reader.feed(options.topics, put)

    @app.on_partitions_assigned.connect
    async def assigned(_app: faust.App, assigned: set[Any], **_kw: Any) -> None:
        emit("assigned", partitions=sorted([tp.topic, tp.partition] for tp in assigned))

    @app.on_partitions_revoked.connect
    async def revoked(_app: faust.App, revoked: set[Any], **_kw: Any) -> None:
        reader.forget()
        emit("revoked", partitions=sorted([tp.topic, tp.partition] for tp in revoked))

    return app


def _nothing_is_asked(topic: str, partition: int, offset: int) -> OffsetLookup:
    raise AssertionError(f"asked for {topic}/{partition} at {offset}")


async def run(app: faust.App) -> None:
    """Start the app and stop it on SIGTERM, in a bounded time."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await app.start()
    emit("ready")
    await ended.wait()
    await asyncio.wait_for(app.stop(), 20)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--transport", choices=("lean", "stock"), required=True)
    parser.add_argument("--hold", action="store_true", help="never acknowledge")
    parser.add_argument("--resume", type=float, default=0.0, help="seconds between an assignment and the first message")
    parser.add_argument("topics", nargs="+")
    asyncio.run(run(build(parser.parse_args())))
