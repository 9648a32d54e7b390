"""Usage on librdkafka's in-process broker: a session of requests, tools and spend, among copies and unreadable
messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Message, TopicPartition

from cli.embedded import running_pipeline
from contracts import codec, topics
from contracts.events import Event
from contracts.settings import Settings
from producers.runtime.batching import UsageRow, usage_batch
from producers.runtime.publisher import Publisher, kafka_config
from streams import metrics
from streams.consumer_group import usage_group
from tests.support.event_log import read_all
from tests.support.oracle import Interval, Request
from tests.support.partition_log import power, tokens
from tests.support.pipeline import feed, until
from tests.support.waiting import HANG_S
from warehouse.client import connect
from warehouse.periods import Period
from warehouse.reader import operator_reader
from warehouse.usage.sessions import Session, session
from warehouse.usage.usage_queries import usage

START_MS = 1_758_000_000_000
SENT = 40
"""Events; every fourth is sent twice."""


def settings(data: Path) -> Settings:
    return Settings(
        data=data, kafka_bootstrap="embedded", lateness_ms=2_000, skew_ms=1_000, idle_timeout_ms=60_000,
        log_level="ERROR",
    )  # fmt: skip


def events() -> Iterator[Event]:
    """Tool calls and spend of one session, under three workloads; some repeat later under another subject."""
    for n in range(SENT):
        at = START_MS + n
        yield _event(n, f"w{n % 3}", at)
        if n % 4 == 0:
            yield _event(n, "again", at + 1_000, seq=SENT + n // 4)


def _event(n: int, workload: str, at: int, seq: int | None = None) -> Event:
    session = {"tenant": "acme", "session_id": "s-1", "trace_id": "t-1", "origin": "agent"}
    rows = [
        UsageRow(
            meter="tool_calls",
            unit="call",
            quantity="1",
            t0_ms=at,
            t1_ms=at,
            event_id=f"call-{n}",
            step="act",
            **session,
        ),
        UsageRow(
            meter="external_spend",
            unit="USD",
            quantity="0.000000000001",
            t0_ms=at,
            t1_ms=at,
            event_id=f"spend-{n}",
            **session,
        ),
    ]
    return Event("agents://c", 1, n if seq is None else seq, "c", workload, usage_batch(rows, 0))


def poison() -> list[tuple[codec.Headers, bytes | None]]:
    late = UsageRow(meter="m", unit="u", quantity="1", t0_ms=4_000_000_000_000, t1_ms=4_000_000_000_000)
    headers, value = codec.encode(Event("p", 1, 0, "c", "w", usage_batch([late], 0)))
    return [(headers, value), (headers, b"\xff"), (headers, None), ([], b"anything"), codec.encode(_energy())]


def _energy() -> Event:
    interval = Interval(
        cluster="c",
        workload="w",
        node="n",
        gpu="g",
        hardware="h100",
        t0=START_MS,
        t1=START_MS + 1_000,
        energy_uj=7_000_000,
    )
    return Event("nvml://c/n/w", 1, 0, "c", "w", power([interval]))


def joined() -> list[Event]:
    """A request of the session, its energy, and heartbeats that complete all."""
    (request,) = [
        Request(
            cluster="c",
            workload="w",
            tenant="acme",
            model="llama",
            request_id="r",
            start=START_MS,
            first=START_MS + 200,
            end=START_MS + 900,
            prompt=10,
            cached=0,
            completion=5,
        )
    ]
    batch = tokens([request])
    batch.session_id, batch.trace_id = ("s-1",), ("t-1",)
    end = START_MS + 60_000
    return [
        _energy(), Event("gw", 1, 0, "c", "w", batch),
        Event("nvml://c/n/w", 1, 1, "c", "w", power([], end)), Event("gw", 1, 1, "c", "w", tokens([], end)),
    ]  # fmt: skip


@dataclass
class Outcome:
    """Results of the pipeline."""

    session: Session
    sums: dict[str, Decimal]
    committed: dict[int, int]
    log: dict[int, int]
    letters: list[Message]
    stored: float
    duplicates: float


@pytest.fixture(scope="module")
def outcome(chdb_dsn: str, data_dir: Path) -> Iterator[Outcome]:
    """One run, shared by every test here."""
    with connect(chdb_dsn, database="default", readers=1) as warehouse:
        warehouse.command("DROP DATABASE IF EXISTS wattlog")
        yield asyncio.run(_run(settings(data_dir)))
        warehouse.command("DROP DATABASE IF EXISTS wattlog")


async def _run(config: Settings) -> Outcome:
    before = metrics.USAGE_ROWS._value.get(), metrics.USAGE_DUPLICATES._value.get()
    async with running_pipeline(config, lambda _: None) as running:
        with Publisher(kafka_config(running.settings)) as publisher:
            for n, event in enumerate(events()):
                if n == SENT // 2:
                    for headers, value in poison():
                        publisher.send_raw(topics.USAGE, b"c/w", headers, value)
                publisher.send(event)
        await feed(running, joined())
        log = {p: len(messages) for (_, p), messages in read_all(running.settings, topics.USAGE).items()}
        await until(running, lambda: _committed(running.settings, list(log)) == log, "every offset was committed")
        letters = [m for messages in read_all(running.settings, topics.DEADLETTER).values() for m in messages]
        rows = usage(operator_reader(running.warehouse), Period(START_MS, START_MS + 60_000)).rows
        return Outcome(
            session=session(operator_reader(running.warehouse), "s-1"),
            sums={r.meter: r.quantity for r in rows},
            committed=_committed(running.settings, list(log)),
            log=log,
            letters=letters,
            stored=metrics.USAGE_ROWS._value.get() - before[0],
            duplicates=metrics.USAGE_DUPLICATES._value.get() - before[1],
        )


def _committed(config: Settings, partitions: list[int]) -> dict[int, int]:
    consumer = Consumer({**kafka_config(config), "group.id": usage_group(config), "log_level": 0})
    try:
        offsets = consumer.committed([TopicPartition(topics.USAGE, p) for p in partitions], timeout=HANG_S)
        return {tp.partition: max(tp.offset, 0) for tp in offsets}
    finally:
        consumer.close()


def test_each_row_counts_once_though_some_were_repeated_elsewhere(outcome: Outcome) -> None:
    assert outcome.sums == {"tool_calls": Decimal(SENT), "external_spend": SENT * Decimal("0.000000000001")}
    assert outcome.stored + outcome.duplicates == 2 * (SENT + SENT // 4)
    assert outcome.stored >= 2 * SENT  # A copy that was read before the first was stored, and withdrawn.


def test_a_session_has_the_energy_of_its_requests_and_the_usage_of_its_agent(outcome: Outcome) -> None:
    session = outcome.session
    assert (session.requests, session.prompt_tokens, session.completion_tokens) == (1, 10, 5)
    assert session.energy_uj == 7_000_000
    assert session.tool_calls == SENT
    assert [(s.trace_id, s.step) for s in session.steps] == [("t-1", ""), ("t-1", "act")]


def test_every_offset_is_committed_to_a_group_of_its_own(outcome: Outcome) -> None:
    assert outcome.committed == outcome.log
    assert sum(outcome.log.values()) == SENT + SENT // 4 + len(poison())


def test_an_unreadable_message_is_a_dead_letter_whole_and_with_its_reason(outcome: Outcome) -> None:
    letters = {letter.value(): dict(letter.headers() or []) for letter in outcome.letters}
    assert len(outcome.letters) == len(letters) == len(poison())
    for headers, value in poison():
        letter = letters[value]
        assert letter["ce_subject"].startswith(b"wattlog.usage.v1/")
        assert {f"original_{k}": v for k, v in headers}.items() <= letter.items()
    fields = [letters[value]["wattlog_field"].decode() for _, value in poison()]
    assert fields == ["t_ms", "value", "value", "ce_type", "ce_type"]
