"""Workers as an orchestrator keeps them: so many run, one that ends is started anew, and each has a name of its own."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.kafka.broker import free_ports
from tests.kafka.chaos.scrape import Shown, scrape
from tests.kafka.deployment import Deployment
from tests.kafka.workers import Worker
from tests.support.waiting import wait_until

MOST_ENDED = 5
"""So many workers may end by themselves before it is said that they do not start at all."""
_HOLDING = re.compile(r"holding partitions (\[.*\])")


@dataclass
class Member:
    """One `wattlog stream` with its own /metrics."""

    worker: Worker
    port: int

    @property
    def name(self) -> str:
        return self.worker.name

    def shown(self) -> Shown:
        """Its metrics; empty while it does not answer."""
        return scrape(self.port) or {}

    def said(self, text: str) -> list[str]:
        """The lines of its stderr that hold a text."""
        return [line for line in self.worker.error_text(100_000).splitlines() if text in line]

    def holdings(self) -> list[list[int]]:
        """What each rebalance gave it, in its own words."""
        found = map(_HOLDING.search, self.said("holding partitions"))
        return [json.loads(match[1]) for match in found if match]


class Crew:
    """Keeps workers of a deployment running. `members` are those that should run now, `all` whoever ever did."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self.members: list[Member] = []
        self.all: list[Member] = []
        self.ended: list[Member] = []
        """Who ended without being asked to."""
        self.kills = 0

    def scale(self, count: int, *flags: str) -> None:
        """Have so many workers: start some, or ask the newest to leave (SIGTERM; fails unless they end with 0)."""
        while len(self.members) < count:
            self._start(*flags)
        leaving = [self.members.pop() for _ in range(len(self.members) - count)]
        for member in leaving:
            assert member.worker.terminate() == 0, member.worker.error_text()

    def kill(self, rng: random.Random) -> Member:
        """SIGKILL one, whichever; its successor starts at once."""
        victim = self.members.pop(rng.randrange(len(self.members)))
        victim.worker.kill()
        self.kills += 1
        self._start()
        return victim

    def tend(self) -> None:
        """Start anew who ended by itself."""
        for member in [m for m in self.members if not m.worker.running]:
            self.members.remove(member)
            self.ended.append(member)
            assert len(self.ended) <= MOST_ENDED, f"workers end by themselves\n{member.worker.error_text()}"
            self._start()

    def rebalances(self) -> int:
        """How often a worker was given partitions."""
        return sum(len(member.holdings()) for member in self.all)

    def until(self, true: Callable[[], bool], what: str) -> float:
        """Wait until `true()`, restarting workers that end; return the seconds it took, for reports only."""

        def errors() -> str:
            return "\n".join(f"--- {m.name}\n{m.worker.error_text(15)}" for m in self.members + self.ended[-2:])

        begun_s = time.monotonic()
        wait_until(true, what, meanwhile=self.tend, detail=errors, every_s=0.1)
        return time.monotonic() - begun_s

    def until_held(self, partitions: int, *, by_all: bool = False) -> float:
        """Wait until the workers show, on /metrics, that every partition is held once; `by_all`: and each holds some.

        Faust's assignor may leave some without when partitions cannot be shared out evenly.
        """

        def held() -> bool:
            shown = [m.shown().get("wattlog_stream_partitions", 0) for m in self.members]
            return sum(shown) == partitions and (all(shown) or not by_all)

        return self.until(held, f"{partitions} partitions are held by {len(self.members)} workers")

    def _start(self, *flags: str) -> None:
        (port,) = free_ports(1)
        name = f"worker-{len(self.all) + 1}"
        worker = self._deployment.stream(name, *flags, env={"WATTLOG_METRICS_PORT": str(port)})
        self.members.append(Member(worker, port))
        self.all.append(self.members[-1])
