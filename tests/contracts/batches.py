"""Batches for the tests of the contracts: one valid batch of each type, and strategies."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
from hypothesis import strategies as st

from contracts.events import MAX_ENERGY_UJ, MAX_TIME_MS, MAX_TOKENS, Batch, Event, PowerBatch, TokenBatch, UsageBatch

T0 = 1_700_000_000_000


def column(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def index(*values: int) -> np.ndarray:
    return np.array(values, np.uint16)


POWER = PowerBatch(
    node="n1", gpus=(("GPU-0", "H100"), ("GPU-1", "H100")), gpu=index(0, 1),
    t0_ms=column(T0, T0), t1_ms=column(T0 + 1_000, T0 + 2_000),
    energy_uj=column(7, 8), method=np.array([0, 2], np.uint8), busy_ms=column(500, -1), owner="lab", t_ms=T0 + 3_000,
)  # fmt: skip
TOKENS = TokenBatch(
    tenants=("acme", "globex"), tenant=index(0, 1), models=("m",), model=index(0, 0), request_id=("r1", "r2"),
    t_start_ms=column(T0, T0), t_first_ms=column(T0 + 10, 0), t_end_ms=column(T0 + 900, T0),
    prompt_tokens=column(100, 0),
    cached_tokens=column(40, 0), completion_tokens=column(9, 0), statuses=("ok", "timeout"), status=index(0, 1),
    session_id=("s", ""), trace_id=("", "t"), t_ms=T0 + 3_000,
)  # fmt: skip
USAGE = UsageBatch(
    meter=("gpu_minutes",),
    unit=("min",),
    tenant=("acme",),
    quantity=("-12.50",),
    t0_ms=column(T0),
    t1_ms=column(T0),
    t_ms=T0,
    origin=("runai://c1",),
    event_id=("w1/gpu_minutes",),
    session_id=("s",),
    trace_id=("t",),
    step=("plan",),
    dimensions=({"pod": "p-0", "node": ""},),
)


def event(batch: Batch, **of: object) -> Event:
    return replace(Event("node/n1", 1_700_000_000_000, 3, "eu-1", "llm/chat", batch), **of)


def same(a: Batch, b: Batch) -> bool:
    """Equal except for the dictionary's bytes, which only a decoded batch has, and the dictionary's order."""
    return (isinstance(a, type(b)) or isinstance(b, type(a))) and _plain(a) == _plain(b)


_DICTIONARIES = {"gpu": "gpus", "tenant": "tenants", "model": "models", "status": "statuses"}


def _plain(batch: Batch) -> dict[str, object]:
    out = {}
    for field in fields(batch):
        value = getattr(batch, field.name)
        if field.name in _DICTIONARIES and isinstance(value, np.ndarray):
            dictionary = getattr(batch, _DICTIONARIES[field.name])
            value = [dictionary[i] for i in value]
        if field.name not in (*_DICTIONARIES.values(), "gpus_key"):
            out[field.name] = value.tolist() if isinstance(value, np.ndarray) else value
    return out


text = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=12)
names = text.filter(lambda t: t.isprintable() and not t.startswith("__"))
times = st.integers(0, MAX_TIME_MS - 21_600_000)


def lists(of, n):
    return st.lists(of, min_size=n, max_size=n)


@st.composite
def power_batches(draw) -> PowerBatch:
    n = draw(st.integers(0, 5))
    gpus = tuple(draw(st.lists(st.tuples(names, names), min_size=1, max_size=4, unique=True)))
    t0, span = column(*draw(lists(times, n))), column(*draw(lists(st.integers(1, 21_600_000), n)))
    return PowerBatch(
        node=draw(names),
        gpus=gpus,
        gpu=index(*draw(lists(st.integers(0, len(gpus) - 1), n))),
        t0_ms=t0,
        t1_ms=t0 + span,
        energy_uj=column(*draw(lists(st.integers(0, MAX_ENERGY_UJ), n))),
        method=np.array(draw(lists(st.integers(0, 2), n)), np.uint8),
        busy_ms=np.minimum(column(*draw(lists(st.integers(-1, 21_600_000), n))), span),
        owner=draw(st.just("") | names),
        t_ms=draw(times),
    )


@st.composite
def token_batches(draw) -> TokenBatch:
    n = draw(st.integers(0, 5))
    tenants, models, statuses = (tuple(draw(st.lists(names, min_size=1, max_size=3, unique=True))) for _ in range(3))
    pick = lambda of: index(*draw(lists(st.integers(0, len(of) - 1), n)))  # noqa: E731
    start, span = column(*draw(lists(times, n))), column(*draw(lists(st.integers(0, 21_600_000), n)))
    prompt = column(*draw(lists(st.integers(0, MAX_TOKENS), n)))
    return TokenBatch(
        tenants=tenants,
        tenant=pick(tenants),
        models=models,
        model=pick(models),
        request_id=tuple(draw(lists(names, n))),
        t_start_ms=start,
        t_first_ms=np.where(column(*draw(lists(st.integers(0, 1), n))) > 0, start, 0),
        t_end_ms=start + span,
        prompt_tokens=prompt,
        cached_tokens=prompt // 2,
        completion_tokens=column(*draw(lists(st.integers(0, MAX_TOKENS), n))),
        statuses=statuses,
        status=pick(statuses),
        session_id=tuple(draw(lists(names, n))) if draw(st.booleans()) else (),
        trace_id=(),
        t_ms=draw(times),
        requests=column(*draw(lists(st.integers(0, MAX_TOKENS), n))) if n and draw(st.booleans()) else None,
    )


@st.composite
def usage_batches(draw) -> UsageBatch:
    n = draw(st.integers(0, 4))
    quantity = st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9)
    start = column(*draw(lists(times, n)))
    labels = ("origin", "event_id", "session_id", "trace_id", "step")
    maps = st.dictionaries(names, st.just("") | names, max_size=2)
    return UsageBatch(
        meter=tuple(draw(lists(names, n))), unit=tuple(draw(lists(names, n))),
        tenant=tuple(draw(lists(st.just("") | names, n))), quantity=tuple(f"{q:f}" for q in draw(lists(quantity, n))),
        t0_ms=start, t1_ms=start + 1, t_ms=draw(times),
        **{name: tuple(draw(lists(names, n))) if draw(st.booleans()) else () for name in labels},
        dimensions=tuple(draw(lists(maps, n))) if draw(st.booleans()) else (),
    )  # fmt: skip


batches = st.one_of(power_batches(), token_batches(), usage_batches())
