"""A forged source claims numbers ahead, on a real Kafka: the producer notices, and begins an epoch that counts."""

from __future__ import annotations

import logging
import time
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from contracts import topics
from contracts.events import Event, TokenBatch
from producers.runtime.claim_watch import ClaimWatch
from producers.runtime.delivery import Delivery, encode_message
from producers.runtime.event_sequence import Sequencer, event_of
from producers.runtime.publisher import Publisher, kafka_config
from producers.runtime.spool import Spool
from streams.core.sequence import MAX_AHEAD
from tests.kafka.deployment import Deployment, holding
from tests.kafka.test_end_to_end import deployment, ledger
from tests.support.oracle import Request
from tests.support.partition_log import tokens
from tests.support.waiting import wait_until
from warehouse.client import Warehouse

__all__ = ["deployment", "ledger"]

SOURCE = "http://c/n/w"
STORED = "SELECT tenant, sum(completion_tokens) AS tokens FROM ledger FINAL WHERE tenant != '__idle__' GROUP BY tenant"


class Gateway:
    """The true producer: a call of one token per message, numbered and sent through its spool."""

    def __init__(self, spool: Spool, publisher: Publisher, watch: ClaimWatch, start_ms: int) -> None:
        self.numbers, self.t_ms = Sequencer(start_ms), start_ms
        self.delivery = Delivery(spool, publisher, claims=watch)
        self.sent: list[tuple[int, int]] = []
        """(epoch, number) of each message."""

    def send(self, tenant: str, count: int) -> None:
        for _ in range(count):
            self.delivery.heed_claims(self.numbers, self.t_ms)
            self.t_ms += 1_000
            event = event_of(self.numbers, SOURCE, "c", "w", call(tenant, self.t_ms, len(self.sent)))
            self.sent.append((event.epoch, event.seq))
            self.delivery.offer([encode_message(event)])
            wait_until(self._delivered, "the message is acknowledged")

    def noticed(self) -> bool:
        """Heed the notices that were read. True once the source has another epoch."""
        self.delivery.heed_claims(self.numbers, time.time_ns() // 1_000_000)
        return self.numbers.epoch_of(SOURCE) != self.numbers.epoch

    def _delivered(self) -> bool:
        self.delivery.pump(0.02)
        return not self.delivery.waiting


def call(tenant: str, t_ms: int, n: int) -> TokenBatch:
    return tokens([
        Request(
            cluster="c", workload="w", tenant=tenant, model="m", request_id=f"{tenant}-{n}", start=t_ms - 500,
            first=t_ms - 400, end=t_ms, prompt=0, cached=0, completion=1,
        )
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("claimed", "restarts"),
    [
        pytest.param(range(3, 63), False, id="the next numbers"),
        pytest.param(range(3, 63), True, id="the next numbers, before the worker is killed"),
        pytest.param(range(10**9, 10**9 + MAX_AHEAD + 10), False, id="more far ahead than are remembered"),
    ],
)
def test_the_producer_notices_and_all_its_later_tokens_reach_the_ledger(
    deployment: Deployment, ledger: Warehouse, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    claimed: range, restarts: bool,
) -> None:  # fmt: skip
    quick = {"WATTLOG_IDLE_TIMEOUT_MS": "3000", "WATTLOG_MAX_OPEN_ROWS": "1000000"}
    worker = deployment.stream("first", env=quick)
    holding(worker)
    start_ms, kafka, registry = (
        time.time_ns() // 1_000_000 - 600_000,
        kafka_config(deployment.settings),
        CollectorRegistry(),
    )
    with (
        closing(Spool(tmp_path / "spool.db")) as spool,
        Publisher(kafka) as publisher,
        Publisher(kafka) as forger,
        ClaimWatch(kafka, registry, every_s=0.3) as watch,
    ):
        gateway = Gateway(spool, publisher, watch, start_ms)
        gateway.send("true", 3)
        for seq in claimed:
            forger.send(Event(SOURCE, start_ms, seq, "c", "w", call("forged", start_ms, seq)))
        forger.flush()
        wait_until(lambda: stored(ledger).get("forged") == len(claimed), "the forged calls count", every_s=0.3)
        if restarts:
            worker.kill()
            holding(deployment.stream("second", env=quick))
        before = len(gateway.sent)
        gateway.send("taken", 1)
        with caplog.at_level(logging.ERROR):
            wait_until(gateway.noticed, "the producer notices")
        gateway.send("later", 60)
        dead, later = gateway.sent[before:-60], gateway.sent[-60:]
        assert {epoch for epoch, _ in dead} == {start_ms}
        assert [seq for _, seq in later] == list(range(60))
        assert min(epoch for epoch, _ in later) > start_ms
        wait_until(
            lambda: stored(ledger) == {"true": 3, "forged": len(claimed), "later": 60}, "all later tokens count",
            detail=lambda: f"{stored(ledger)}\n{deployment.workers[-1].error_text()}", every_s=0.3,
        )  # fmt: skip
    assert registry.get_sample_value("wattlog_producer_numbers_taken_total") == 1
    assert any(f"{SOURCE}: " in r.getMessage() and "docs/kafka-access.md" in r.getMessage() for r in caplog.records)
    books = deployment.run("audit", "--json")
    assert books.json["residual_uj"] == books.json["token_residual_tokens"] == 0
    if not restarts:  # Else nobody knows any more whether the second message is a copy.
        assert deployment.sent(topics.DEADLETTER) == books.json["contested_messages"] == len(dead)
        [run] = books.json["contested"]
        assert (run["source"], run["first_seq"], run["last_seq"]) == (SOURCE, dead[0][1], dead[-1][1])
        assert books.status == 3


def stored(ledger: Warehouse) -> dict[str, int]:
    return {row["tenant"]: int(row["tokens"]) for row in ledger.query(STORED)}
