"""An agent that is killed at any points and started again with its spool."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from hypothesis import strategies as st

from producers.runtime.agent import Agent
from producers.runtime.spool import Spool
from tests.support.brokers import FakeBroker


def run_through_kills(
    data: st.DataObject, path: Path, log: FakeBroker, agent_of: Callable[[Spool], Agent], *, max_down_ms: int,
    min_samples: int = 1, last_ms: int = 30_000,
) -> None:  # fmt: skip
    """Run agents on the spool at `path`, each killed after some samples, and one that ends after `last_ms`."""
    time = log.clock
    for down_ms in data.draw(st.lists(st.integers(0, max_down_ms), max_size=4), "down"):
        with closing(Spool(path)) as spool:
            agent = agent_of(spool)
            for _ in range(data.draw(st.integers(min_samples, 20), "samples")):
                agent.sample()
                time.now_ms += 1_000
                if data.draw(st.booleans(), "publishes"):
                    agent.publish()
        log.forget()
        time.now_ms += down_ms
    time.end_ms = time.now_ms + last_ms
    log.away_at = lambda now_ms: False
    with closing(Spool(path)) as spool:
        agent_of(spool).run()
