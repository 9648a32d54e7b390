"""Requests on a real Kafka: kills between a gateway's log and the ledger lose and duplicate no request and no token."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from contracts import topics
from tests.kafka.deployment import Deployment, holding
from tests.kafka.test_end_to_end import deployment, ledger
from tests.kafka.workers import ROOT
from tests.support.waiting import HANG_S, wait_until
from warehouse.client import Warehouse

__all__ = ["deployment", "ledger"]

CONFIG = """
cluster = "east"
[produce.accesslog]
path = "{log}"
begin = "start"
every_s = 0.1
[[produce.accesslog.deployments]]
model = "llama*"
workload = "chat"
"""
STORED = """
SELECT sum(requests) AS requests, sum(prompt_tokens) AS prompt, sum(completion_tokens) AS completion,
    countDistinct(workload) AS workloads
FROM ledger FINAL WHERE final = 1
"""


class Gateway:
    """Append one line per request to a log that is rotated now and then."""

    def __init__(self, folder: Path) -> None:
        self.log, self.folder = folder / "access.jsonl", folder
        self.rng = random.Random(3)
        self.requests = self.prompt = self.completion = 0
        self.log.touch()
        self.config = folder / "wattlog.toml"
        self.config.write_text(CONFIG.format(log=self.log))

    def serve(self, count: int) -> None:
        """Let `count` requests end now."""
        with self.log.open("a") as log:
            for _ in range(count):
                now_ms = time.time_ns() // 1_000_000
                prompt, completion = self.rng.randrange(1, 5_000), self.rng.randrange(1, 800)
                line = {
                    "id": f"r-{self.requests}", "tenant": self.rng.choice(("acme", "globex")),
                    "model": self.rng.choice(("llama-8b", "unheard-of")), "start": now_ms - 900, "end": now_ms,
                    "prompt_tokens": prompt, "completion_tokens": completion, "messages": "not looked at",
                }  # fmt: skip
                log.write(json.dumps(line) + "\n")
                self.requests, self.prompt = self.requests + 1, self.prompt + prompt
                self.completion += completion

    def rotate(self) -> None:
        """Rename the log, and begin a new one."""
        self.log.rename(self.log.with_suffix(".jsonl.1"))
        self.log.touch()


@contextmanager
def producer(deployment: Deployment, gateway: Gateway) -> Iterator[subprocess.Popen[bytes]]:
    """`wattlog produce accesslog`; killed at the end unless it has ended."""
    env = {
        **{k: v for k, v in deployment.env.items() if k != "WATTLOG_WAREHOUSE_DSN"},
        "WATTLOG_CONFIG": str(gateway.config), "WATTLOG_DATA": str(gateway.folder / "data"), "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    with (gateway.folder / "producer.stderr").open("ab") as errors:
        command = [sys.executable, "-m", "tests.kafka.wattlog", "produce", "accesslog"]
        process = subprocess.Popen(command, cwd=ROOT, env=env, stderr=errors)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def test_each_request_is_in_the_ledger_once_through_kills_of_producer_and_worker(
    deployment: Deployment, ledger: Warehouse, tmp_path: Path
) -> None:
    gateway, dice = Gateway(tmp_path), random.Random(5)
    worker = deployment.stream("first", env={"WATTLOG_IDLE_TIMEOUT_MS": "3000"})
    holding(worker)
    for n in range(5):
        before = deployment.sent(topics.TOKENS)
        gateway.serve(40)  # while no producer runs
        with producer(deployment, gateway):
            # Killed before it began, on a slow machine, it would never have seen the log that is rotated below.
            wait_until(lambda before=before: deployment.sent(topics.TOKENS) > before, "the producer sends")
            for _ in range(6):
                gateway.serve(dice.randrange(30))
                time.sleep(dice.random() / 4)
            if n == 2:
                worker.kill()
                worker = deployment.stream("second", env={"WATTLOG_IDLE_TIMEOUT_MS": "3000"})
    with producer(deployment, gateway) as last:
        deployment.kafka.stop()
        try:
            gateway.serve(50)
            gateway.rotate()
            gateway.serve(50)
            time.sleep(2)
        finally:
            deployment.kafka.start()
        gateway.serve(50)
        expected = {
            "requests": gateway.requests,
            "prompt": gateway.prompt,
            "completion": gateway.completion,
            "workloads": 2,
        }

        def detail() -> str:
            errors = (tmp_path / "producer.stderr").read_text("utf-8", "replace")[-2000:]
            return f"{ledger.query(STORED)[0]}, not {expected}\n{errors}\n{worker.error_text()}"

        wait_until(lambda: ledger.query(STORED)[0] == expected, "every request is stored", detail=detail, every_s=0.3)
        last.send_signal(signal.SIGTERM)
        assert last.wait(HANG_S) == 0
    books = deployment.run("audit", "--json")
    assert (books.status, books.json["sequence_gaps"], books.json["residual_uj"]) == (0, 0, 0)
