"""The traffic of producers: intervals and requests of a few seconds, and their mishaps on the way.

An event is sent once or several times (the same `ce_id`), soon or long after, in any order, from a clock that is ahead
or behind; between them are heartbeats and unreadable messages. The fate of each is known from the start: it counts
once, or is a dead letter, or either (if it is so little in the future that the time of reading decides).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from random import Random

import numpy as np

from contracts import codec, topics
from contracts.events import REQUEST_COLUMNS, Event, Method, PowerBatch, TokenBatch
from tests.simulation.worker import EPOCH_MS
from tests.support.oracle import Interval, Request

FAR_MS = 86_400_000
"""So far in the future that no worker of a simulation accepts it."""


class Fate(Enum):
    COUNTS = "counts"
    DEAD = "dead letter"
    EITHER = "either"


@dataclass(frozen=True)
class Mix:
    """Amounts of traffic, and probabilities of mishaps: shares of 1, times in milliseconds."""

    events: int = 14
    windows: int = 6
    window_ms: int = 1_000
    skew_ms: int = 500
    late: float = 0.0
    late_ms: float = 8_000.0
    twice: float = 0.0
    disorder_ms: float = 100.0
    skewed: float = 0.0
    future: float = 0.0
    poison: float = 0.0
    empty: float = 0.0
    """Share of messages preceded by offsets that hold nothing."""
    beats: float = 0.1
    json: float = 0.1
    worker_behind_ms: int = 0
    """Largest delay of a worker's clock."""
    hosts: bool = False
    """True if the third device is its node's host, not a GPU."""


@dataclass(frozen=True)
class Sent:
    """One event, and the times (virtual ms) at which it is appended to the log."""

    name: str
    topic: str
    partition: int
    headers: list[tuple[str, bytes]] | None
    value: bytes | None
    at_ms: tuple[float, ...]
    fate: Fate
    identity: tuple[str, int, int] | None = None
    """(source, epoch, seq), if it can be read."""
    intervals: tuple[Interval, ...] = ()
    requests: tuple[Request, ...] = ()


@dataclass
class Traffic:
    """All events of one simulation."""

    sent: list[Sent] = field(default_factory=list)
    met: dict[str, int] = field(default_factory=dict)

    def count(self, kind: str) -> None:
        self.met[kind] = self.met.get(kind, 0) + 1


_WORKLOADS = ("w", "x", "~n")
_GPUS = (("g0", "H100"), ("g1", "H100"), ("g2", "A100"))
_TENANTS, _MODELS = ("acme", "globex"), ("m1", "m2")


def traffic(rng: Random, mix: Mix, partitions: int) -> Traffic:
    """All events, in no order. A workload's events all go to one partition."""
    result = Traffic()
    numbers: dict[str, int] = {}
    place = {w: rng.randrange(partitions) for w in _WORKLOADS}
    ahead = {
        s: rng.choice((-1, 1)) * rng.randrange(2 * mix.skew_ms + 1) for s in ("a", "b") if rng.random() < mix.skewed
    }
    for n in range(mix.events):
        workload, owner = rng.choice(_WORKLOADS[: 2 + (n % 4 == 0)]), rng.choice("aab")
        shift = ahead.get(owner, 0)
        power = rng.random() < 0.5
        end = rng.uniform(0.0, mix.windows * mix.window_ms)
        if rng.random() < mix.future:
            shift = rng.choice((FAR_MS, mix.skew_ms + rng.randrange(2_000)))
            result.count("from the future")
        batch, rows = (_power if power else _tokens)(rng, mix, workload, int(end) + shift, n)
        source = f"{owner}/{workload}/{'power' if power else 'tokens'}"
        _send(result, rng, mix, numbers, source, workload, place[workload], batch, rows, end)
    for _ in range(mix.events):
        if rng.random() < mix.beats:
            end = rng.uniform(0.0, mix.windows * mix.window_ms)
            _beat(result, rng, mix, numbers, rng.randrange(partitions), rng.choice(topics.JOINED), end)
        if rng.random() < mix.poison:
            _poison(result, rng, mix, partitions)
    return result


def last_beats(rng: Random, mix: Mix, partitions: int, t_ms: float) -> list[Sent]:
    """One heartbeat on every partition: a loss at the end of a topic shows when another message follows."""
    result = Traffic()
    for partition in range(partitions):
        for topic in topics.JOINED:
            _beat(result, rng, replace(mix, late=0.0, twice=0.0), {}, partition, topic, t_ms, source="last")
    return result.sent


def _send(traffic_, rng, mix, numbers, source, workload, partition, batch, rows, end) -> None:  # type: ignore[no-untyped-def]
    """Number the event, and choose its times: soon after its end, or late, and perhaps again."""
    seq = numbers.get(source, 0)
    numbers[source] = seq + 1
    kind = codec.JSON if rng.random() < mix.json else codec.PACKED
    headers, value = codec.encode(Event(source, 1, seq, "c", workload, batch), content_type=kind)
    first = end + rng.uniform(0.0, mix.disorder_ms)
    if rng.random() < mix.late:
        first += rng.uniform(0.0, mix.late_ms)
        traffic_.count("sent late")
    at_ms = [first]
    while rng.random() < mix.twice and len(at_ms) < 3:
        at_ms.append(first + rng.choice((0.0, rng.uniform(0.0, mix.late_ms))))
        traffic_.count("sent twice")
    if batch.event_ms != EPOCH_MS + int(end):
        traffic_.count("clock skewed")
    ahead_ms = batch.event_ms - EPOCH_MS - first - mix.skew_ms
    fate = Fate.EITHER if ahead_ms + mix.worker_behind_ms > -5 else Fate.COUNTS
    if ahead_ms > FAR_MS // 2:
        fate = Fate.DEAD
    topic = codec.topic_of(batch)
    traffic_.sent.append(
        Sent(
            name=f"{source}.{seq}",
            topic=topic,
            partition=partition,
            headers=headers,
            value=value,
            at_ms=tuple(at_ms),
            fate=fate,
            identity=(source, 1, seq),
            intervals=rows if topic == topics.POWER else (),
            requests=rows if topic == topics.TOKENS else (),
        )
    )


def _power(rng: Random, mix: Mix, workload: str, end: int, n: int) -> tuple[PowerBatch, tuple[Interval, ...]]:
    node, owner = rng.choice("pq"), "" if rng.random() < 0.7 else "own"
    rows = []
    for gpu, hardware in rng.sample(_GPUS, rng.randrange(1, 3)):
        if mix.hosts and gpu == "g2":
            gpu, hardware = f"host-{node}", "host"
        length = rng.choice((mix.window_ms // 2, mix.window_ms, rng.randrange(1, 2 * mix.window_ms + 2)))
        t1 = EPOCH_MS + end - rng.randrange(3)
        rows.append(
            Interval(
                cluster="c",
                workload=workload,
                node=node,
                gpu=gpu,
                hardware=hardware,
                t0=t1 - length,
                t1=t1,
                energy_uj=rng.randrange(10**9),
                owner=owner,
            )
        )
    entries = tuple(rows)
    ints = lambda values: np.array(values, np.int64)  # noqa: E731 - a local shorthand
    batch = PowerBatch(
        node=node, gpus=tuple((i.gpu, i.hardware) for i in entries), gpu=np.arange(len(entries), dtype=np.uint16),
        t0_ms=ints([i.t0 for i in entries]), t1_ms=ints([i.t1 for i in entries]),
        energy_uj=ints([i.energy_uj for i in entries]), method=np.full(len(entries), Method.COUNTER, np.uint8),
        busy_ms=np.full(len(entries), -1, np.int64), owner=owner, t_ms=EPOCH_MS + end,
    )  # fmt: skip
    return batch, entries


def _tokens(rng: Random, mix: Mix, workload: str, end: int, n: int) -> tuple[TokenBatch, tuple[Request, ...]]:
    rows = []
    for k in range(rng.randrange(1, 3)):
        t1 = EPOCH_MS + end - rng.randrange(3)
        t0 = t1 - rng.choice((0, mix.window_ms // 3, rng.randrange(3 * mix.window_ms)))
        first = rng.choice((0, t0, t0 + (t1 - t0) // 3))
        prompt, completion = (rng.randrange(900), rng.randrange(90)) if rng.random() < 0.8 else (0, 0)
        rows.append(
            Request(
                cluster="c",
                workload=workload,
                tenant=rng.choice(_TENANTS),
                model=rng.choice(_MODELS),
                request_id=f"r{n}.{k}",
                start=t0,
                first=first,
                end=t1,
                prompt=prompt,
                cached=rng.randrange(prompt + 1),
                completion=completion,
                ok=rng.random() < 0.8,
            )
        )
    entries = tuple(rows)
    ints = lambda name: np.array([getattr(r, name) for r in entries], np.int64)  # noqa: E731 - a local shorthand
    batch = TokenBatch(
        tenants=_TENANTS, tenant=np.array([_TENANTS.index(r.tenant) for r in entries], np.uint16),
        models=_MODELS, model=np.array([_MODELS.index(r.model) for r in entries], np.uint16),
        request_id=tuple(r.request_id for r in entries), t_start_ms=ints("start"), t_first_ms=ints("first"),
        t_end_ms=ints("end"), prompt_tokens=ints("prompt"), cached_tokens=ints("cached"),
        completion_tokens=ints("completion"), statuses=("ok", "error"),
        status=np.array([0 if r.ok else 1 for r in entries], np.uint16), t_ms=EPOCH_MS + end,
    )  # fmt: skip
    return batch, entries


def _beat(
    traffic_: Traffic, rng: Random, mix: Mix, numbers: dict[str, int], partition: int, topic: str, end: float,
    source: str = "beat",
) -> None:  # fmt: skip
    """A heartbeat: the source is complete up to here."""
    none, codes, t_ms = np.zeros(0, np.int64), np.zeros(0, np.uint16), EPOCH_MS + int(end)
    batch: PowerBatch | TokenBatch
    if topic == topics.POWER:
        batch = PowerBatch(
            node="p",
            gpus=(),
            gpu=codes,
            t0_ms=none,
            t1_ms=none,
            energy_uj=none,
            method=none.astype(np.uint8),
            busy_ms=none,
            owner="",
            t_ms=t_ms,
        )
    else:
        numbers_by_name = {c.name: none for c in REQUEST_COLUMNS if c.form == "number" and not c.optional}
        batch = TokenBatch(
            tenants=(), tenant=codes, models=(), model=codes, request_id=(), status=codes, t_ms=t_ms, **numbers_by_name
        )
    _send(traffic_, rng, mix, numbers, f"{source}/{partition}/{topic}", "w", partition, batch, (), end)


def _poison(traffic_: Traffic, rng: Random, mix: Mix, partitions: int) -> None:
    """An unreadable message, or one that must not be accepted."""
    topic = rng.choice(topics.JOINED)
    event = Event("poison", 1, 0, "c", "w", _power(rng, mix, "w", 0, 0)[0])
    headers, value = codec.encode(event)
    other = topics.TOKENS if topic == topics.POWER else topics.POWER
    wrong: list[tuple[list[tuple[str, bytes]] | None, bytes | None]] = [
        (None, b"garbage"), (headers, None), (headers, value[:-9]), (headers[:3], value),
        ([(k, b"1" if k == "ce_id" else v) for k, v in headers], value), ([*headers, headers[1]], value),
        ([(k, other.encode() if k == "ce_type" else v) for k, v in headers], value),
    ]  # fmt: skip
    if topic == topics.TOKENS:
        wrong.append((headers, value))  # Energy on the tokens' topic.
    h, v = rng.choice(wrong)
    at = rng.uniform(0.0, mix.windows * mix.window_ms + mix.late_ms / 2)
    traffic_.count("poison")
    traffic_.sent.append(
        Sent(
            name="poison",
            topic=topic,
            partition=rng.randrange(partitions),
            headers=h,
            value=v,
            at_ms=(at,),
            fate=Fate.DEAD,
        )
    )
