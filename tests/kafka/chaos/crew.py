"""Workers under an orchestrator: a fixed number run, one that ends is replaced, and each has a name of its own."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.kafka.broker import free_ports
from tests.kafka.chaos.scrape import Metrics, scrape
from tests.kafka.deployment import Deployment
from tests.kafka.workers import Worker
from tests.support.waiting import wait_until

MOST_ENDED = 5
"""Number of workers that may end on their own before the crew fails as unable to start."""
_HOLDING = re.compile(r"holding partitions (\[.*\])")


@dataclass
class Member:
    """One `wattlog stream` with its own /metrics."""

    worker: Worker
    port: int

    @property
    def name(self) -> str:
        return self.worker.name

    def metrics(self) -> Metrics:
        """The worker's metrics; empty while it does not answer."""
        return scrape(self.port) or {}

    def log_lines(self, text: str) -> list[str]:
        """Lines of its stderr that contain a text."""
        return [line for line in self.worker.error_text(100_000).splitlines() if text in line]

    def holdings(self) -> list[list[int]]:
        """The partitions of each rebalance, as logged."""
        matches = map(_HOLDING.search, self.log_lines("holding partitions"))
        return [json.loads(match[1]) for match in matches if match]


class Crew:
    """Keep workers of a deployment running. `members` are those that should run now, `all` includes the ended ones."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self.members: list[Member] = []
        self.all: list[Member] = []
        self.ended: list[Member] = []
        """Who ended without being asked to."""
        self.kills = 0

    def scale(self, count: int, *flags: str) -> None:
        """Change the number of workers: start some, or stop the newest (SIGTERM; fails unless they end with 0)."""
        while len(self.members) < count:
            self._start(*flags)
        leaving = [self.members.pop() for _ in range(len(self.members) - count)]
        for member in leaving:
            assert member.worker.terminate() == 0, member.worker.error_text()

    def kill(self, rng: random.Random) -> Member:
        """SIGKILL one worker at random; its successor starts at once."""
        victim = self.members.pop(rng.randrange(len(self.members)))
        victim.worker.kill()
        self.kills += 1
        self._start()
        return victim

    def tend(self) -> None:
        """Replace workers that ended."""
        for member in [m for m in self.members if not m.worker.running]:
            self.members.remove(member)
            self.ended.append(member)
            assert len(self.ended) <= MOST_ENDED, f"workers end by themselves\n{member.worker.error_text()}"
            self._start()

    def rebalances(self) -> int:
        """Number of times that a worker received partitions."""
        return sum(len(member.holdings()) for member in self.all)

    def until(self, true: Callable[[], bool], goal: str) -> float:
        """Wait until `true()`, replacing workers that end. Returns the seconds that it took, for reports only."""

        def errors() -> str:
            return "\n".join(f"--- {m.name}\n{m.worker.error_text(15)}" for m in self.members + self.ended[-2:])

        begun_s = time.monotonic()
        wait_until(true, goal, meanwhile=self.tend, detail=errors, every_s=0.1)
        return time.monotonic() - begun_s

    def until_held(self, partitions: int, *, by_all: bool = False) -> float:
        """Wait until /metrics of the workers shows that every partition is held once. With `by_all`, each worker holds
        some.

        Faust's assignor may leave some workers without partitions when these cannot be shared out evenly.
        """

        def held() -> bool:
            counts = [m.metrics().get("wattlog_stream_partitions", 0) for m in self.members]
            return sum(counts) == partitions and (all(counts) or not by_all)

        return self.until(held, f"{partitions} partitions are held by {len(self.members)} workers")

    def _start(self, *flags: str) -> None:
        (port,) = free_ports(1)
        name = f"worker-{len(self.all) + 1}"
        worker = self._deployment.stream(name, *flags, env={"WATTLOG_METRICS_PORT": str(port)})
        self.members.append(Member(worker, port))
        self.all.append(self.members[-1])
