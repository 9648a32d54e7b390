"""The scenarios of `python -m tests.kafka.chaos`: the faults of `faults`, at length."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from contracts import topics
from tests.kafka.broker import KafkaBroker
from tests.kafka.chaos.faults import (
    Announcer,
    Recovery,
    begin,
    kill_at_random,
    kill_broker,
    pause_worker,
    scale,
    stop_broker,
)
from tests.kafka.chaos.field import Field, open_field
from tests.kafka.chaos.poison import cycle
from tests.kafka.chaos.verdict import judge
from tests.support.event_log import read_all

Work = Callable[[Field, int, int, Announcer], Recovery]
BROKER_AWAY_S = 30.0
POISON_MESSAGES = 2_000
"""Messages per round of poison, sent at five times the speed of event time."""


@dataclass(frozen=True)
class Outcome:
    """The faults of one scenario, and the ledger's state afterwards. Seconds of wall time."""

    name: str
    rounds: int
    kills: int
    ended: int
    rebalances: int
    messages: int
    duplicates: int
    dead_letters: int
    recover_p50_s: float
    recover_max_s: float
    residual_uj: int
    sequence_gaps: int
    rows: int
    fingerprint_equal: bool
    oracle_equal: bool
    sound: bool
    fingerprint: str
    seconds: float


def kills(run: Field, rounds: int, seed: int, announce: Announcer) -> Recovery:
    begin(run, workers=3)
    return kill_at_random(run, rounds, seed, announce=announce)


def brokers(run: Field, rounds: int, seed: int, announce: Announcer) -> Recovery:
    begin(run, workers=2)
    recovery = Recovery()
    for n in range(rounds):
        recovery.seconds += (stop_broker(run, BROKER_AWAY_S) if n % 2 else kill_broker(run)).seconds
        announce("stopped the broker" if n % 2 else "killed the broker")
    return recovery


def members(run: Field, rounds: int, seed: int, announce: Announcer) -> Recovery:
    begin(run, workers=1)
    recovery = Recovery()
    for _ in range(rounds):
        recovery.seconds += scale(run, (3, 1)).seconds
        announce("1 to 3 to 1 workers")
    return recovery


def sleepers(run: Field, rounds: int, seed: int, announce: Announcer) -> Recovery:
    begin(run, workers=3)
    rng, result = random.Random(seed), Recovery()
    for _ in range(rounds):
        zombie, recovery = pause_worker(run, rng)
        result.seconds += recovery.seconds
        announce(f"{zombie.name} slept past its session")
    return result


def poisoned(run: Field, rounds: int, seed: int, announce: Announcer) -> Recovery:
    feeder = run.feed(seed=seed, speed=5, poison=cycle("west/served-1"))
    begin(run, workers=2)
    begun_s = time.monotonic()
    for n in range(rounds):
        target = (n + 1) * POISON_MESSAGES
        run.crew.until(lambda target=target: feeder.messages >= target, f"{target} messages are sent")  # type: ignore[misc]
        announce(f"{len(feeder.poisoned)} messages of poison")
    return Recovery([run.progress.recovered_after(begun_s) or 0.0])


ALL: Mapping[str, tuple[Work, int]] = {
    "kills": (kills, 200), "brokers": (brokers, 6), "members": (members, 6), "sleepers": (sleepers, 6),
    "poison": (poisoned, 12),
}  # fmt: skip
"""By name: the function, and its default number of rounds."""


def play(
    name: str, kafka: KafkaBroker, chdb_root: Path, folder: Path, *, rounds: int, seed: int, announce: Announcer
) -> Outcome:
    """Run a scenario in a field of its own, wait until all is stored, and judge the ledger."""
    folder.mkdir()
    begun = time.monotonic()
    with open_field(kafka, chdb_root, folder, f"chaos_{name}", seed) as run:
        recovery = ALL[name][0](run, rounds, seed, announce)
        announce("no more is sent; waiting until all of it is final")
        run.until_stored()
        letters = sum(map(len, read_all(run.deployment.settings, topics.DEADLETTER).values()))
        announce("comparing with the oracle and with an undisturbed worker")
        verdict = judge(run)
        success = verdict.sound and not (run.crew.ended or letters < len(run.feeder.poisoned))
        return Outcome(
            name=name,
            rounds=rounds,
            kills=run.crew.kills,
            ended=len(run.crew.ended),
            rebalances=run.crew.rebalances(),
            messages=run.feeder.messages,
            duplicates=verdict.duplicates,
            dead_letters=letters,
            recover_p50_s=round(recovery.p50_s, 2),
            recover_max_s=round(recovery.max_s, 2),
            residual_uj=verdict.residual_uj,
            sequence_gaps=verdict.sequence_gaps,
            rows=verdict.ledger_rows,
            fingerprint_equal=verdict.fingerprint == verdict.undisturbed,
            oracle_equal=verdict.ledger_sha256 == verdict.oracle_sha256,
            sound=success,
            fingerprint=verdict.fingerprint,
            seconds=round(time.monotonic() - begun, 1),
        )
