"""A worker process for test_kafka_faust.py: raw bytes of two co-partitioned topics, by faust-streaming over aiokafka.

It says what happens to it as JSON lines on stdout: `ready`, `assigned`, `revoked`, `got`. The settings are those that
DESIGN.md found to be needed; acknowledging is optional, to see what an unacknowledged message does after a kill.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from typing import Any

import faust
import mode

from streams.transport.consumer import PromptConsumer


def say(event: str, **fields: Any) -> None:
    """One line on stdout. The parent reads it as it comes."""
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def build(bootstrap: str, group: str, topics: list[str], *, data: str, ack: bool, resume_s: float) -> faust.App:
    """The Faust app: one agent a topic, raw in and out, offsets from the group alone, our consumer."""
    app = faust.App(
        group,
        broker=f"kafka://{bootstrap}",
        datadir=data,  # else Faust makes a folder in the working directory
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
        stream_recovery_delay=resume_s,
    )
    app.transport.Consumer = PromptConsumer

    def read(name: str) -> None:
        source = app.topic(name, value_type=bytes, key_serializer="raw", value_serializer="raw")

        @app.agent(source, name=f"read-{name}", supervisor_strategy=mode.CrashingSupervisor)
        async def agent(stream: faust.StreamT[bytes]) -> None:
            async for event in stream.noack().events():
                message = event.message
                say(
                    "got",
                    topic=message.topic,
                    partition=message.partition,
                    offset=message.offset,
                    value=event.value.hex(),
                )
                if ack:
                    event.ack()

    for name in topics:
        read(name)

    @app.on_partitions_assigned.connect
    async def assigned(_app: faust.App, assigned: set[Any], **_kw: Any) -> None:
        say("assigned", partitions=sorted([tp.topic, tp.partition] for tp in assigned))

    @app.on_partitions_revoked.connect
    async def revoked(_app: faust.App, revoked: set[Any], **_kw: Any) -> None:
        say("revoked", partitions=sorted([tp.topic, tp.partition] for tp in revoked))

    return app


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
    parser.add_argument("--hold", action="store_true", help="never acknowledge")
    parser.add_argument("--resume", type=float, default=0.0, help="seconds between an assignment and the first message")
    parser.add_argument("topics", nargs="+")
    given = parser.parse_args()
    asyncio.run(
        run(
            build(
                given.bootstrap, given.group, given.topics, data=given.data, ack=not given.hold, resume_s=given.resume
            )
        )
    )
