"""The Faust worker on librdkafka's in-process broker: a simulated fleet's minute among unreadable messages."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Message

from cli.embedded import Pipeline, running_pipeline
from contracts import codec, topics
from contracts.errors import BadEvent
from contracts.events import Event, PowerBatch, TokenBatch, UsageBatch
from contracts.settings import Settings
from producers.runtime.publisher import Publisher, kafka_config
from producers.simulation.events import FleetTotals, SimulatedFleet
from tests.support.event_log import Place, committed, read_all
from tests.support.oracle import Interval
from tests.support.partition_log import power
from tests.support.pipeline import assert_ledger_is, feed, until
from warehouse.audit.conservation import audit
from warehouse.audit.report import Audit
from warehouse.client import connect
from warehouse.reader import operator_reader

START_MS = 1_758_000_000_000
MINUTE_MS = 60_000
KEY = b"us-east/chat-70b"


def _settings(data: Path, transport: Any) -> Settings:
    return Settings(  # Small enough to close windows within the minute.
        data=data,
        transport=transport,
        kafka_bootstrap="embedded",
        lateness_ms=2_000,
        skew_ms=1_000,
        idle_timeout_ms=60_000,
        log_level="ERROR",
    )


def poison() -> dict[str, tuple[str, codec.Headers, bytes | None]]:
    """(topic, headers, value) of messages that must not count, by their error."""

    def headers(type_: str = topics.POWER, id_: str = "1.0", content_type: str = codec.PACKED) -> codec.Headers:
        return codec.envelope(
            type_=type_, source="poison", id_=id_, subject=KEY.decode(), t_ms=START_MS, content_type=content_type
        )

    ahead = Interval(
        cluster="us-east",
        workload="chat-70b",
        node="n",
        gpu="g",
        hardware="h100",
        t0=4_000_000_000_000,
        t1=4_000_000_001_000,
        energy_uj=1,
    )
    future = codec.encode(Event("poison", 1, 0, "us-east", "chat-70b", power([ahead])))
    return {
        "value": (topics.POWER, headers(), b"\xff\x00 not msgpack"),
        "ce_type": (topics.POWER, headers("wattlog.power.v2"), b"{}"),
        "json": (topics.TOKENS, headers(topics.TOKENS, content_type=codec.JSON), b'{"request_id": 7}'),
        "t_ms": (topics.POWER, *future),
        "tombstone": (topics.TOKENS, headers(topics.TOKENS), None),
        "no headers": (topics.TOKENS, [], b"anything"),
        "ce_id": (topics.POWER, headers(id_="x.y"), b"{}"),
        "other topic": (topics.POWER, headers(topics.USAGE), codec.encode(_usage())[1]),
    }


def _usage() -> Event:
    at = np.array([START_MS], np.int64)
    return Event(
        "poison",
        1,
        0,
        "us-east",
        "chat-70b",
        UsageBatch(meter=("cpu",), unit=("s",), tenant=("acme",), quantity=("1.5",), t0_ms=at, t1_ms=at + 1),
    )


@dataclass
class Outcome:
    """Results of the pipeline."""

    totals: FleetTotals
    audit: Audit
    log: dict[Place, list[Message]]
    committed_halfway: dict[Place, int]
    final_halfway_ms: dict[int, int]
    """By partition, the end of the windows that were final and stored when half of the minute was on the log."""
    committed: dict[Place, int]
    letters: list[Message]
    rejected: int


@pytest.fixture(scope="module", params=["lean", pytest.param("stock", marks=pytest.mark.slow)])
def outcome(chdb_dsn: str, data_dir: Path, request: pytest.FixtureRequest) -> Iterator[Outcome]:
    """One run, shared by every test here. The ledger stays in the database `wattlog` until they are done."""
    with connect(chdb_dsn, database="default", readers=1) as warehouse:
        warehouse.command("DROP DATABASE IF EXISTS wattlog")
        yield asyncio.run(_run(_settings(data_dir, request.param)))
        warehouse.command("DROP DATABASE IF EXISTS wattlog")


async def _run(settings: Settings) -> Outcome:
    totals = FleetTotals()
    closing_ms = settings.lateness_ms + settings.skew_ms + 2 * settings.window_ms
    events = list(SimulatedFleet(3).events(START_MS, MINUTE_MS, totals=totals, closing_ms=closing_ms))
    half = next(n for n, e in enumerate(events) if e.batch.event_ms > START_MS + MINUTE_MS // 2)
    async with running_pipeline(settings, lambda _: None) as running:
        stream_worker, place = running.stream_worker, running.settings
        assert stream_worker is not None
        await feed(running, events[:half], wait=False)
        with Publisher(kafka_config(place)) as publisher:
            for topic, headers, value in poison().values():
                publisher.send_raw(topic, KEY, headers, value)
        await until(running, lambda: stream_worker.messages == half + len(poison()), "everything sent so far was read")
        await until(running, lambda: _caught_up(running), "what is stored was committed")
        middle, final = committed(place), _final(running)
        await feed(running, events[half:])
        log = read_all(place, *topics.JOINED)
        ends = {p: messages[-1].offset() + 1 for p, messages in log.items() if messages}
        await until(running, lambda: _reaches(committed(place), ends), "every offset was committed")
        letters = [m for messages in read_all(place, topics.DEADLETTER).values() for m in messages]
        return Outcome(
            totals=totals,
            audit=audit(operator_reader(running.warehouse)),
            log=log,
            committed_halfway=middle,
            final_halfway_ms=final,
            committed=committed(place),
            letters=letters,
            rejected=stream_worker.rejected,
        )


def _marks(running: Pipeline) -> dict[Place, int]:
    rows = running.warehouse.query("SELECT log_partition AS p, power_offset, tokens_offset FROM marks FINAL")
    columns = zip(topics.JOINED, ("power_offset", "tokens_offset"), strict=True)
    return {(topic, r["p"]): r[column] for topic, column in columns for r in rows if r[column] >= 0}


def _caught_up(running: Pipeline) -> bool:
    marks = _marks(running)
    return max(marks.values(), default=0) > 0 and _reaches(committed(running.settings), marks)


def _final(running: Pipeline) -> dict[int, int]:
    rows = running.warehouse.query(
        "SELECT log_partition AS p, toUnixTimestamp64Milli(final_end) AS ms FROM marks FINAL"
    )
    return {r["p"]: r["ms"] for r in rows}


def _reaches(offsets: dict[Place, int], goal: dict[Place, int]) -> bool:
    return all(offsets[place] >= offset for place, offset in goal.items())


def test_the_ledger_equals_the_fleets_totals(outcome: Outcome, chdb_dsn: str) -> None:
    with connect(chdb_dsn, readers=1) as warehouse:
        assert_ledger_is(warehouse, outcome.totals)


def test_the_ledger_balances_and_misses_nothing(outcome: Outcome) -> None:
    assert outcome.audit.ok
    assert outcome.audit.windows > 0
    assert outcome.audit.measured_uj == sum(outcome.totals.energy_uj.values())


def test_only_final_and_stored_windows_are_committed(outcome: Outcome) -> None:
    """Halfway, some windows were final and some open: no offset beyond a message of an open window was committed."""
    ahead = {place: at for place, at in outcome.committed_halfway.items() if at > 0}
    assert ahead
    held = 0
    for (topic, partition), messages in outcome.log.items():
        for message in messages:
            last_ms = _last_ms(message)
            if last_ms is not None and last_ms >= outcome.final_halfway_ms.get(partition, 0):
                assert outcome.committed_halfway[topic, partition] <= message.offset()
                held += 1
    assert held


def _last_ms(message: Message) -> int | None:
    """The last instant of a message's rows; None where it has none, or cannot be read."""
    try:
        batch = codec.decode(message.headers(), message.value()).batch
    except BadEvent:
        return None
    if not len(batch) or batch.event_ms > START_MS + MINUTE_MS:
        return None
    if isinstance(batch, PowerBatch):
        return int(batch.t1_ms.max()) - 1
    return int(batch.t_end_ms.max()) - 1 if isinstance(batch, TokenBatch) else None


def test_everything_is_committed_at_the_end(outcome: Outcome) -> None:
    assert outcome.committed == {
        place: messages[-1].offset() + 1 if messages else 0 for place, messages in outcome.log.items()
    }


def test_an_unreadable_message_is_a_dead_letter_whole_and_with_its_reason(outcome: Outcome) -> None:
    sent = poison()
    assert outcome.rejected == len(sent) == len(outcome.letters)
    by_body = {(letter.value(), _headers(letter).get("original_ce_id")): letter for letter in outcome.letters}
    for kind, (topic, headers, value) in sent.items():
        letter = _headers(by_body[value, dict(headers).get("ce_id")])
        assert letter["wattlog_field"] and letter["wattlog_reason"], kind
        assert letter["ce_subject"].startswith(topic.encode() + b"/"), kind
        assert {f"original_{k}": v for k, v in headers}.items() <= letter.items(), kind


@pytest.mark.parametrize(
    ("kind", "field", "reason"),
    [
        ("value", "value", "the body does not fit its type"),
        ("ce_type", "ce_type", "this version reads wattlog.power.v1"),
        ("json", "value", "the body does not fit its type"),
        ("t_ms", "t_ms", "is in the future by more than 1000 ms"),
        ("tombstone", "value", "a tombstone means nothing here"),
        ("no headers", "ce_type", "this header is required"),
        ("ce_id", "ce_id", "give EPOCH.SEQ"),
        ("other topic", "ce_type", "does not belong on wattlog.power.v1"),
    ],
)
def test_the_reason_of_a_dead_letter_names_the_field_and_the_fix(
    outcome: Outcome, kind: str, field: str, reason: str
) -> None:
    _, headers, value = poison()[kind]
    letter = next(
        _headers(m)
        for m in outcome.letters
        if m.value() == value and _headers(m).get("original_ce_id") == dict(headers).get("ce_id")
    )
    assert letter["wattlog_field"] == field.encode()
    assert reason in letter["wattlog_reason"].decode()


def _headers(message: Message) -> dict[str, bytes]:
    return dict(message.headers() or [])
