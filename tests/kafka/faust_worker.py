"""A worker process for test_faust.py: raw bytes of two co-partitioned topics, through one of our transports.

It says what happens to it as JSON lines on stdout: `ready`, `assigned`, `revoked`, `got`. The settings are those of
`streams/app.py`; acknowledging is optional, to see what an unacknowledged message does after a kill.
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


def say(event: str, **fields: Any) -> None:
    """One line on stdout. The parent reads it as it comes."""
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def build(given: argparse.Namespace) -> faust.App:
    """The Faust app: raw bytes in, offsets from the group alone."""
    app = faust.App(
        given.group,
        broker=f"{transport.scheme(given.transport)}://{given.bootstrap}",
        datadir=given.data,  # else Faust makes a folder in the working directory
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
        stream_recovery_delay=given.resume,
    )
    reader = transport.reader(app, _nothing_is_asked)

    async def put(topic: str, partition: int, messages: Sequence[LogMessage], begin: int | None) -> None:
        for message in messages:
            say("got", topic=topic, partition=partition, offset=message.offset, value=(message.value or b"").hex())
        if not given.hold:
            reader.acknowledge({(topic, partition): messages[-1].offset + 1})

    reader.feed(given.topics, put)

    @app.on_partitions_assigned.connect
    async def assigned(_app: faust.App, assigned: set[Any], **_kw: Any) -> None:
        say("assigned", partitions=sorted([tp.topic, tp.partition] for tp in assigned))

    @app.on_partitions_revoked.connect
    async def revoked(_app: faust.App, revoked: set[Any], **_kw: Any) -> None:
        reader.forget()
        say("revoked", partitions=sorted([tp.topic, tp.partition] for tp in revoked))

    return app


def _nothing_is_asked(topic: str, partition: int, offset: int) -> OffsetLookup:
    raise AssertionError(f"asked for {topic}/{partition} at {offset}")


async def run(app: faust.App) -> None:
    """Starts the app and stops it on SIGTERM, in a bounded time."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await app.start()
    say("ready")
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
