"""An event log for these tests: librdkafka's in-process broker, which speaks the real protocol."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from contracts import codec
from contracts.events import Event
from contracts.settings import Settings
from producers.runtime.runner import run
from tests.support.event_log import in_process_broker
from tests.support.http_server import Request, Response, serving
from tests.support.waiting import HANG_S

Consume = Callable[..., list[Message]]
Page = Callable[[], tuple[int, str]]
"""Status and text of a page."""


@pytest.fixture
def broker() -> Iterator[str]:
    """The address of a broker of this test alone; it creates topics of 4 partitions on demand."""
    with in_process_broker() as address:
        yield address


@pytest.fixture
def consume(broker: str) -> Iterator[Consume]:
    """Read `count` messages of a topic from its beginning, in the order of its partitions' offsets."""
    consumer = Consumer({
        "bootstrap.servers": broker, "group.id": "test", "enable.auto.commit": False, "auto.offset.reset": "earliest",
        "log_level": 0,
    })  # fmt: skip

    def consume(topic: str, count: int) -> list[Message]:
        partitions = consumer.list_topics(topic, timeout=HANG_S).topics[topic].partitions
        consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
        got: list[Message] = []
        while len(got) < count:
            more = consumer.consume(count - len(got), timeout=HANG_S)
            assert more, f"{len(got)} of {count} messages of {topic}"
            got += more
        assert not consumer.consume(1, timeout=0.1), f"more than {count} messages of {topic}"
        return got

    yield consume
    consumer.close()


@contextmanager
def running(name: str, settings: Settings, stop: threading.Event) -> Iterator[None]:
    """A producer in a thread of its own; stopped and joined at the end."""
    thread = threading.Thread(target=run, args=(name, settings, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def first_with_rows(broker: str, topic: str, accept: Callable[[Event], bool] = lambda event: True) -> Event:
    """The first event of a topic that has rows and is accepted."""
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "rows", "log_level": 0})
    try:
        maker = Producer({"bootstrap.servers": broker, "log_level": 0})  # naming a topic creates it
        partitions = maker.list_topics(topic, timeout=HANG_S).topics[topic].partitions
        consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
        while True:
            for message in consumer.consume(10, timeout=0.5):
                event = codec.decode(message.headers(), message.value())
                if len(event.batch) and accept(event):
                    return event
    finally:
        consumer.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Page], str]]:
    """Serve a page over HTTP, with status and text from a function for each request; return its address."""
    with ExitStack() as servers:

        def serve(page: Page) -> str:
            def answer(_: Request) -> Response:
                status, text = page()
                return Response(status, text.encode())

            return servers.enter_context(serving(answer)) + "/metrics"

        yield serve
