"""The input: a SIMULATED fleet whose rows are the same whatever the messages' shape. Seeded, so exactly repeatable.

Each GPU is read once a second, at a phase of its node, so that intervals do not stop at the ends of windows. Requests
have a start, a first token and an end, and their tenants' shares decrease as 1/rank. Rows are made in blocks of
BLOCK_S seconds; a shape says how many of them share a message.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count, islice

import numpy as np
import numpy.typing as npt

from contracts.columns import I64
from contracts.events import Event, Method, PowerBatch, TokenBatch
from streams.placement import partition_of

BLOCK_S = 64
MS = 1000
CLUSTER = "bench"
HARDWARE = "NVIDIA H100 80GB HBM3"
IDLE_MW = 70_000
"""Idle floor of the GPUs: 70 W, so that attribution has something to split."""
MAX_REQUEST_MS = 30_000


@dataclass(frozen=True)
class Fleet:
    """`partitions` of the log, `workloads` on each, `nodes` a workload, `gpus` a node; requests are `token_share` of
    all rows. The first row is at `base_ms`."""

    base_ms: int
    partitions: int = 2
    workloads: int = 16
    nodes: int = 4
    gpus: int = 8
    tenants: int = 50
    token_share: float = 0.2
    seed: int = 1

    @property
    def readings_per_block(self) -> int:
        """Readings of one workload in a block."""
        return self.nodes * self.gpus * BLOCK_S

    @property
    def requests_per_block(self) -> int:
        """Requests of one workload in a block."""
        return round(self.readings_per_block * self.token_share / (1 - self.token_share))

    @property
    def rows_per_block(self) -> int:
        """Rows of the fleet in a block."""
        return self.partitions * self.workloads * (self.readings_per_block + self.requests_per_block)

    def blocks(self, rows: int) -> int:
        """The least number of blocks that hold so many rows."""
        return max(1, -(-rows // self.rows_per_block))

    @cached_property
    def tenant_names(self) -> tuple[str, ...]:
        return tuple(f"tenant-{i:05}" for i in range(self.tenants))

    @cached_property
    def tenant_share(self) -> npt.NDArray[np.float64]:
        weight = 1.0 / np.arange(1, self.tenants + 1)
        return np.asarray(weight / weight.sum(), np.float64)

    def names(self) -> list[tuple[int, str]]:
        """(partition, workload) of all workloads, each with the partition that Kafka's partitioner chooses for it."""
        return [(p, name) for p in range(self.partitions) for name in self.names_on(p)]

    def names_on(self, partition: int) -> list[str]:
        """The workloads of a partition."""
        candidates = (f"wl-{partition}-{n:03}" for n in count())
        right = (name for name in candidates if partition_of(self.partitions, CLUSTER, name) == partition)
        return list(islice(right, self.workloads))


@dataclass(frozen=True)
class Requests:
    """Requests of one workload in one block, by their end."""

    tenant: npt.NDArray[np.intp]
    start: I64
    first: I64
    end: I64
    prompt: I64
    cached: I64
    completion: I64
    number: int
    """Of the first one: numbers go on from it."""

    def __len__(self) -> int:
        return len(self.end)


@dataclass(frozen=True)
class Block:
    """BLOCK_S seconds of one workload. `energy_uj` is (nodes, seconds, gpus); `phase_ms` each node's own."""

    partition: int
    workload: str
    start_ms: int
    energy_uj: I64
    phase_ms: I64
    requests: Requests


def blocks(fleet: Fleet, count: int) -> Iterator[list[Block]]:
    """The fleet's rows, block by block; each yield holds every workload."""
    rng = np.random.default_rng(fleet.seed)
    phase = rng.integers(0, MS, (len(fleet.names()), fleet.nodes))
    mix = [rng.permutation(fleet.tenants) for _ in fleet.names()]
    for b in range(count):
        start = fleet.base_ms + b * BLOCK_S * MS
        yield [
            Block(
                partition, workload, start,
                rng.integers(90_000_000, 700_000_000, (fleet.nodes, BLOCK_S, fleet.gpus)), phase[i],
                _requests(fleet, rng, mix[i], start, b),
            )
            for i, (partition, workload) in enumerate(fleet.names())
        ]  # fmt: skip


def _requests(fleet: Fleet, rng: np.random.Generator, mix: npt.NDArray[np.intp], start_ms: int, block: int) -> Requests:
    """One each n-th of a block, so that a message of any shape holds the rows that it says."""
    n = fleet.requests_per_block
    step = BLOCK_S * MS / max(n, 1)
    end = start_ms + (np.arange(n) * step + rng.random(n) * step).astype(np.int64) + 1
    length = np.minimum(300 + rng.exponential(3_000, n).astype(np.int64), MAX_REQUEST_MS)
    prompt = rng.integers(50, 2_000, n)
    cached = np.where(rng.random(n) < 0.3, prompt // 2, 0)
    tenant = mix[rng.choice(fleet.tenants, n, p=fleet.tenant_share)]
    begun = end - length
    first = begun + np.minimum(length // 4, 400)
    return Requests(
        tenant=tenant,
        start=begun,
        first=first,
        end=end,
        prompt=prompt,
        cached=cached,
        completion=rng.integers(10, 800, n),
        number=block * n,
    )


@dataclass
class Totals:
    """Totals of the rows, which every contestant's ledger must reproduce."""

    rows: int = 0
    readings: int = 0
    requests: int = 0
    energy_uj: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    def add(self, block: Block) -> None:
        r = block.requests
        self.readings += block.energy_uj.size
        self.requests += len(r)
        self.rows = self.readings + self.requests
        self.energy_uj += int(block.energy_uj.sum())
        self.prompt_tokens += int(r.prompt.sum())
        self.cached_tokens += int(r.cached.sum())
        self.completion_tokens += int(r.completion.sum())


@dataclass(frozen=True)
class Slice:
    """Contents of one message: readings of some GPUs of a node, or requests of a workload, in a block."""

    block: Block
    node: int
    """-1: requests."""
    first: int
    """First second, or first request."""
    last: int
    gpu0: int = 0
    gpu1: int = 0

    def intervals(self) -> tuple[npt.NDArray[np.intp], I64, I64]:
        """(GPU in the node, t0_ms, energy_uj) of each reading's interval, which is a second long; in time order."""
        gpus, seconds = np.arange(self.gpu0, self.gpu1), np.arange(self.first, self.last)
        t0 = self.block.start_ms + int(self.block.phase_ms[self.node]) + seconds * MS
        energy = self.block.energy_uj[self.node, self.first : self.last, self.gpu0 : self.gpu1]
        return np.tile(gpus, len(seconds)), np.repeat(t0, len(gpus)), np.ascontiguousarray(energy).ravel()


def slices(fleet: Fleet, blocks_made: list[Block], rows: int) -> Iterator[Slice]:
    """Cut a block into messages of `rows` rows (1, or a multiple of a node's GPUs that divides a block), in the order
    in which they would be sent: time first."""
    seconds = max(rows // fleet.gpus, 1)
    wide = min(rows, fleet.gpus)
    if rows % wide or fleet.gpus % wide or BLOCK_S % seconds:
        raise ValueError(f"{rows} rows a message do not divide {BLOCK_S} s of {fleet.gpus} GPUs")
    n = fleet.requests_per_block
    for second in range(0, BLOCK_S, seconds):
        begin, end = n * second // BLOCK_S, n * (second + seconds) // BLOCK_S
        for block in blocks_made:
            for node in range(fleet.nodes):
                for gpu in range(0, fleet.gpus, wide):
                    yield Slice(block, node, second, second + seconds, gpu, gpu + wide)
            for at in range(begin, end, rows):
                yield Slice(block, -1, at, min(at + rows, end))


class Events:
    """Slices as Wattlog's events, numbered per source without gaps."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._seq: dict[str, int] = {}
        self._gpus: dict[tuple[str, int, int, int], tuple[tuple[str, str], ...]] = {}

    def event(self, s: Slice) -> Event:
        workload = s.block.workload
        batch = self._power(s) if s.node >= 0 else self._tokens(s)
        source = f"bench://{workload}/{s.node}" if s.node >= 0 else f"bench-gateway://{workload}"
        return self._numbered(source, workload, batch)

    def closing(self, t_ms: int) -> Iterator[tuple[int, Event]]:
        """(partition, event): heartbeats of both topics that say "complete up to `t_ms`", so that windows close."""
        none = np.zeros(0, np.int64)
        for partition in range(self._fleet.partitions):
            workload = self._fleet.names_on(partition)[0]
            power = PowerBatch(
                node="close",
                gpus=(),
                gpu=none.astype(np.uint16),
                t0_ms=none,
                t1_ms=none,
                energy_uj=none,
                method=none.astype(np.uint8),
                busy_ms=none,
                t_ms=t_ms,
            )
            tokens = TokenBatch(
                tenants=(),
                tenant=none.astype(np.uint16),
                models=(),
                model=none.astype(np.uint16),
                request_id=(),
                t_start_ms=none,
                t_first_ms=none,
                t_end_ms=none,
                prompt_tokens=none,
                cached_tokens=none,
                completion_tokens=none,
                statuses=("ok",),
                status=none.astype(np.uint16),
                t_ms=t_ms,
            )
            yield partition, self._numbered(f"bench://close/{partition}", workload, power)
            yield partition, self._numbered(f"bench-gateway://close/{partition}", workload, tokens)

    def _numbered(self, source: str, workload: str, batch: PowerBatch | TokenBatch) -> Event:
        seq = self._seq.get(source, 0)
        self._seq[source] = seq + 1
        return Event(source, self._fleet.base_ms, seq, CLUSTER, workload, batch)

    def _power(self, s: Slice) -> PowerBatch:
        gpu, t0, energy = s.intervals()
        key = (s.block.workload, s.node, s.gpu0, s.gpu1)
        if key not in self._gpus:
            self._gpus[key] = tuple((gpu_name(s, g), HARDWARE) for g in range(s.gpu0, s.gpu1))
        return PowerBatch(
            node=node_name(s),
            gpus=self._gpus[key],
            gpu=(gpu - s.gpu0).astype(np.uint16),
            t0_ms=t0,
            t1_ms=t0 + MS,
            energy_uj=energy,
            method=np.full(len(t0), Method.COUNTER, np.uint8),
            busy_ms=np.full(len(t0), -1, np.int64),
        )

    def _tokens(self, s: Slice) -> TokenBatch:
        r, at = s.block.requests, slice(s.first, s.last)
        tenants, index = np.unique(r.tenant[at], return_inverse=True)
        n = s.last - s.first
        return TokenBatch(
            tenants=tuple(self._fleet.tenant_names[t] for t in tenants),
            tenant=index.astype(np.uint16),
            models=(model_name(s),),
            model=np.zeros(n, np.uint16),
            request_id=request_ids(s),
            t_start_ms=r.start[at],
            t_first_ms=r.first[at],
            t_end_ms=r.end[at],
            prompt_tokens=r.prompt[at],
            cached_tokens=r.cached[at],
            completion_tokens=r.completion[at],
            status=np.zeros(n, np.uint16),
        )


def node_name(s: Slice) -> str:
    return f"{s.block.workload}-n{s.node}"


def gpu_name(s: Slice, gpu: int) -> str:
    """Return a GPU's name, as long as an NVIDIA UUID."""
    return f"GPU-{s.block.workload:>18}-{s.node:04}-{gpu:012}".replace(" ", "0")


def model_name(s: Slice) -> str:
    return f"model-{int(s.block.workload[-3:]) % 8}"


def request_ids(s: Slice) -> tuple[str, ...]:
    first = s.block.requests.number
    return tuple(f"{s.block.workload}-{first + i:x}" for i in range(s.first, s.last))
