"""The SIMULATED fleet: its clusters, GPUs, models and tenants, how busy they are, and the power that this draws.

The live stream (`events`) and the past (`history`) share it, so that one continues where the other ends. All of it
is invented except the hardware's figures and the energy per token, which lie within measured ranges:

* Maximum watts are the makers' board power (NVIDIA data sheets: H100 SXM and H200 SXM 700 W, A100 SXM 400 W, L40S
  350 W). Idle watts are typical of idle boards in nvidia-smi. They are starting values for a user's own.
* Tokens a second are chosen so that energy per output token is within the figures of the ML.ENERGY benchmark v3.
  These are, from best to batch 8, in J/token on an H100: Llama-3.1-8B 0.070 ... 0.455, Llama-3.1-70B 0.373 ...
  3.76, Qwen3-32B 0.229 ... 1.73, GPT-OSS-120B 0.086 ... 0.78.

Demand is counted in H100s at unit load: tokens a second over what one H100 does, prefill and decode added. Load is
demand over capacity, busy = 1 - exp(-load), watts = idle + (max - idle) * busy. Batching saturates, so a busier
GPU spends less per token, as real ones do.
"""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from contracts.columns import I64
from contracts.topics import node_workload
from contracts.units import MS_PER_DAY, MS_PER_HOUR

F64 = npt.NDArray[np.float64]

CACHED_WHEN_HIT = 0.6
"""Mean part of a prompt that a hit in the prefix cache saves."""
PREFILL_BATCH = 2.0
"""Prompts that are prefilled at a time. Each takes so many times longer than alone."""


@dataclass(slots=True, frozen=True)
class SimulatedHardware:
    """A type of GPU. `speed` is its throughput over an H100's."""

    name: str
    idle_mw: int
    max_w: float
    speed: float


@dataclass(slots=True, frozen=True)
class SimulatedModel:
    """A model: what one H100 does at unit load (tokens a second), and a typical request.

    Token counts are means of lognormal distributions, `token_ms` is ms per output token of one stream, and
    `cached_ratio` is the part of prompt tokens that the prefix cache saves.
    """

    name: str
    prefill_tps: float
    decode_tps: float
    token_ms: float
    prompt_tokens: float
    completion_tokens: float
    cached_ratio: float

    @property
    def demand(self) -> float:
        """Seconds of one H100 at unit load that a mean request takes."""
        computed = self.prompt_tokens * (1 - self.cached_ratio)
        return computed / self.prefill_tps + self.completion_tokens / self.decode_tps


@dataclass(slots=True, frozen=True)
class SimulatedTenant:
    """A tenant, and when it sends requests.

    `peak_hour` is in UTC. With `swing` 0 the rhythm is flat, with 1 it falls to nothing half a day later.
    `weekend` is the level on Saturdays and Sundays. For the history, `growth` is per 30 days, and `joined` is
    where in it the tenant begins (0 its start, 1 its end).
    """

    name: str
    team: str
    cost_centre: str
    peak_hour: float
    swing: float
    weekend: float
    growth: float = 0.0
    joined: float = 0.0
    sessions: bool = False

    def level(self, t_ms: npt.ArrayLike) -> F64:
        """Return demand over its peak, 0 to 1, at UTC epoch ms."""
        t = np.asarray(t_ms, np.int64)
        turn = 2 * math.pi * (t / MS_PER_HOUR - self.peak_hour) / 24
        weekend = (t // MS_PER_DAY + 3) % 7 >= 5  # 1970-01-01 was a Thursday: day 3 of the week.
        daily: F64 = 1 - self.swing / 2 * (1 - np.cos(turn))
        return daily * np.where(weekend, self.weekend, 1.0)


@dataclass(slots=True, frozen=True)
class SimulatedGpu:
    cluster: str
    node: str
    uuid: str
    hardware: SimulatedHardware


@dataclass(slots=True, frozen=True)
class SimulatedWorkload:
    """A served model. `load` is its load when every tenant is at its peak, `shares` are the tenants' parts of it."""

    cluster: str
    name: str
    model: SimulatedModel
    gpus: tuple[SimulatedGpu, ...]
    load: float
    shares: tuple[tuple[SimulatedTenant, float], ...]
    owner: str = ""

    @property
    def capacity(self) -> float:
        """Capacity in H100s."""
        return sum(gpu.hardware.speed for gpu in self.gpus)

    def requests_per_s(self, tenant: SimulatedTenant, t_ms: npt.ArrayLike) -> F64:
        """Return the expected rate of a tenant's requests at UTC epoch ms."""
        share = {t.name: s for t, s in self.shares}[tenant.name]
        return tenant.level(t_ms) * (self.load * self.capacity * share / self.model.demand)


@dataclass(slots=True, frozen=True)
class FleetSpec:
    """A fleet. No workload occupies the GPUs in `spare`.

    GPUs are read every `sample_ms`, and each source sends an event every `publish_ms`. `failed` is the ratio of
    requests that fail in ordinary times.
    """

    workloads: tuple[SimulatedWorkload, ...]
    spare: tuple[SimulatedGpu, ...]
    sample_ms: int = 1_000
    publish_ms: int = 5_000
    failed: float = 0.004

    @property
    def gpus(self) -> tuple[SimulatedGpu, ...]:
        return (*(gpu for w in self.workloads for gpu in w.gpus), *self.spare)

    @property
    def tenants(self) -> tuple[SimulatedTenant, ...]:
        return tuple({t.name: t for w in self.workloads for t, _ in w.shares}.values())

    def groups(self) -> list[tuple[str, str, str, str, SimulatedWorkload | None, tuple[SimulatedGpu, ...]]]:
        """Return what an agent sends as one event: (cluster, node, workload, owner, the served workload or None, its
        GPUs).
        """
        groups: dict[tuple[str, str, str], tuple[str, SimulatedWorkload | None, list[SimulatedGpu]]] = {}
        for served in self.workloads:
            for gpu in served.gpus:
                groups.setdefault((gpu.cluster, gpu.node, served.name), (served.owner, served, []))[2].append(gpu)
        for gpu in self.spare:
            groups.setdefault((gpu.cluster, gpu.node, node_workload(gpu.node)), ("", None, []))[2].append(gpu)
        return [(*where, owner, served, tuple(gpus)) for where, (owner, served, gpus) in groups.items()]


def busy(load: npt.ArrayLike) -> F64:
    """Return the part of a GPU's power above idle that a load draws, 0 to 1."""
    return 1 - np.exp(-np.asarray(load, np.float64))


def watts(hardware: SimulatedHardware, busy_ratio: F64) -> F64:
    idle_w = hardware.idle_mw / 1000
    return idle_w + (hardware.max_w - idle_w) * busy_ratio


def lognormal_tokens(mean: float, sigma: float, rng: np.random.Generator, n: int, max_tokens: int) -> I64:
    """Return token counts of 1 to `max_tokens`, lognormal with this mean."""
    drawn = rng.lognormal(math.log(mean) - sigma * sigma / 2, sigma, n)
    return np.clip(np.rint(drawn), 1, max_tokens).astype(np.int64)


H100 = SimulatedHardware("NVIDIA H100 80GB HBM3", 70_000, 700, 1.0)
H200 = SimulatedHardware("NVIDIA H200", 75_000, 700, 1.15)
A100 = SimulatedHardware("NVIDIA A100-SXM4-80GB", 55_000, 400, 0.45)
L40S = SimulatedHardware("NVIDIA L40S", 35_000, 350, 0.3)

LLAMA_8B = SimulatedModel(
    name="llama-3.1-8b",
    prefill_tps=20_000,
    decode_tps=3_000,
    token_ms=9,
    prompt_tokens=900,
    completion_tokens=350,
    cached_ratio=0.30,
)
LLAMA_70B = SimulatedModel(
    name="llama-3.1-70b",
    prefill_tps=2_500,
    decode_tps=420,
    token_ms=24,
    prompt_tokens=1_100,
    completion_tokens=380,
    cached_ratio=0.35,
)
QWEN_32B = SimulatedModel(
    name="qwen3-32b",
    prefill_tps=5_500,
    decode_tps=800,
    token_ms=17,
    prompt_tokens=2_400,
    completion_tokens=220,
    cached_ratio=0.50,
)
GPT_OSS_120B = SimulatedModel(
    name="gpt-oss-120b",
    prefill_tps=8_000,
    decode_tps=1_400,
    token_ms=8,
    prompt_tokens=1_300,
    completion_tokens=520,
    cached_ratio=0.25,
)

ACME = SimulatedTenant("acme-search", "Search", "CC-1100", 15, 0.75, 0.70, growth=0.04)
GLOBEX = SimulatedTenant("globex-chat", "Customer Care", "CC-2200", 13, 0.85, 0.45, growth=0.06, sessions=True)
INITECH = SimulatedTenant("initech-code", "Developer Tools", "CC-3300", 14, 0.90, 0.20, growth=0.09, sessions=True)
UMBRELLA = SimulatedTenant("umbrella-research", "Research", "CC-4400", 2, 0.50, 1.00, growth=0.02)
HOOLI = SimulatedTenant("hooli-assist", "Assistants", "CC-5500", 17, 0.80, 0.85, growth=0.15, joined=0.4, sessions=True)

_NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")  # RFC 4122, appendix C: for URLs


def default_spec() -> FleetSpec:
    """Return three clusters, six nodes, 48 GPUs of four kinds, eight served models and five tenants. SIMULATED."""
    us1, us2 = _node("us-east", 1, H100), _node("us-east", 2, H100)
    eu1, eu2 = _node("eu-west", 1, A100), _node("eu-west", 2, A100)
    no1, no2 = _node("eu-north", 1, H200), _node("eu-north", 2, L40S)
    workloads = (
        SimulatedWorkload(
            cluster="us-east",
            name="chat-70b",
            model=LLAMA_70B,
            gpus=us1,
            load=0.9,
            shares=((GLOBEX, 0.5), (ACME, 0.2), (HOOLI, 0.3)),
            owner="globex-chat",
        ),
        SimulatedWorkload("us-east", "chat-8b", LLAMA_8B, us2[:4], 0.7, ((GLOBEX, 0.6), (ACME, 0.4))),
        SimulatedWorkload(
            cluster="us-east",
            name="code-32b",
            model=QWEN_32B,
            gpus=us2[4:7],
            load=1.0,
            shares=((INITECH, 0.8), (UMBRELLA, 0.2)),
            owner="initech-code",
        ),
        SimulatedWorkload("eu-west", "chat-8b", LLAMA_8B, eu1[:4], 0.8, ((GLOBEX, 0.7), (HOOLI, 0.3))),
        SimulatedWorkload(
            cluster="eu-west",
            name="code-32b",
            model=QWEN_32B,
            gpus=eu1[4:],
            load=0.9,
            shares=((INITECH, 1.0),),
            owner="initech-code",
        ),
        SimulatedWorkload(
            cluster="eu-west",
            name="research-70b",
            model=LLAMA_70B,
            gpus=eu2[:7],
            load=0.8,
            shares=((UMBRELLA, 1.0),),
            owner="umbrella-research",
        ),
        SimulatedWorkload(
            "eu-north", "assist-120b", GPT_OSS_120B, no1[:6], 0.8, ((HOOLI, 0.5), (ACME, 0.3), (UMBRELLA, 0.2))
        ),
        SimulatedWorkload(
            cluster="eu-north",
            name="search-8b",
            model=LLAMA_8B,
            gpus=(no1[6], *no2[:6]),
            load=0.8,
            shares=((ACME, 1.0),),
            owner="acme-search",
        ),
    )
    return FleetSpec(workloads, (us2[7], eu2[7], no1[7], *no2[6:]))


def _node(cluster: str, number: int, hardware: SimulatedHardware) -> tuple[SimulatedGpu, ...]:
    node = f"{cluster}-{number}"
    ids = (uuid.uuid5(_NAMESPACE, f"simulated/{node}/{place}") for place in range(8))
    return tuple(SimulatedGpu(cluster, node, f"GPU-{id_}", hardware) for id_ in ids)
