"""`wattlog up` with the address of a real Kafka: the same thing on it."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.cli.test_up import Box, ledger_of, wired
from tests.kafka.broker import KafkaBroker
from tests.kafka.deployment import forget_topics
from tests.support.waiting import wait_until


def test_a_node_with_the_address_of_kafka_has_its_log_there(kafka: KafkaBroker, tmp_path: Path) -> None:
    forget_topics(kafka)
    box = Box()
    with wired(tmp_path, box) as newcomer:
        newcomer.environment |= {"WATTLOG_KAFKA_BOOTSTRAP": kafka.bootstrap, "WATTLOG_KAFKA_GROUP": tmp_path.name}
        for number in (signal.SIGKILL, signal.SIGINT):
            with newcomer.up() as up:
                if box.begin_s is None:
                    wait_until(lambda: min(box.reads["/metrics"], box.reads["/dcgm"]) > 4)
                    box.grow()
                up.wait_for("event log: Kafka at")
                up.wait_for("first tokens")
                if number == signal.SIGINT:
                    box.freeze()
                    wait_until(
                        lambda: ledger_of(up) == box.expected, f"{box.expected}", every_s=0.5,
                        detail=lambda: f"{ledger_of(up)}",
                    )  # fmt: skip
                up.end(number)
        assert not (tmp_path / ".wattlog" / "log.db").exists()
        assert newcomer.run("audit", "--json", "--period", "all").json["sequence_gaps"] == 0
