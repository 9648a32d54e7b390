"""The JSON body: the same columns as lists in one object, `application/json`. What other people's producers send.

Texts stand in the rows themselves, without dictionaries. An unknown field is an error here: it is most likely a
misspelt optional one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from contracts import checks, topics
from contracts.errors import BadEvent
from contracts.events import Batch, Method, PowerBatch, PowerRows, TokenBatch, TokenRows, UsageBatch, counted
from contracts.units import I64

_Value = TypeVar("_Value")
_METHODS = {m.name.lower(): m.value for m in (Method.COUNTER, Method.INTEGRATED, Method.ESTIMATED)}
_METHOD_NAMES = list(_METHODS)


class _PowerJson(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    node: str
    gpu_uuid: list[str]
    hardware: list[str]
    t0_ms: list[int]
    t1_ms: list[int]
    energy_uj: list[int]
    method: list[str] = []
    busy_ms: list[int] = []
    owner: str = ""
    t_ms: int = 0


class _TokensJson(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    request_id: tuple[str, ...]
    tenant: list[str]
    model: list[str]
    t_start_ms: list[int]
    t_end_ms: list[int]
    prompt_tokens: list[int]
    completion_tokens: list[int]
    t_first_ms: list[int] = []
    cached_tokens: list[int] = []
    status: list[str] = []
    session_id: tuple[str, ...] = ()
    trace_id: tuple[str, ...] = ()
    t_ms: int = 0
    requests: list[int] = []


class _UsageJson(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    meter: tuple[str, ...]
    unit: tuple[str, ...]
    tenant: tuple[str, ...]
    quantity: tuple[str, ...]
    t0_ms: list[int]
    t1_ms: list[int]
    t_ms: int = 0
    origin: tuple[str, ...] = ()
    event_id: tuple[str, ...] = ()
    session_id: tuple[str, ...] = ()
    trace_id: tuple[str, ...] = ()
    step: tuple[str, ...] = ()
    dimensions: tuple[dict[str, str], ...] = ()


_read_power = msgspec.json.Decoder(_PowerJson).decode
_read_tokens = msgspec.json.Decoder(_TokensJson).decode
_read_usage = msgspec.json.Decoder(_UsageJson).decode


def _i64(values: list[int]) -> I64:
    return np.asarray(values, np.int64)


def _coded(values: list[_Value]) -> tuple[tuple[_Value, ...], list[int]]:
    """A column as (dictionary in order of appearance, index)."""
    if len(values) == 1:  # What other people's producers send is mostly one row a message.
        return (values[0],), [0]
    seen: dict[_Value, int] = {}
    index = [seen.setdefault(v, len(seen)) for v in values]
    return tuple(seen), index


def _joined(columns: Iterable[list[_Value]]) -> list[_Value]:
    return list(chain.from_iterable(columns))


def _counters(n: int) -> npt.NDArray[np.uint8]:
    return np.full(n, Method.COUNTER, np.uint8)


@contextmanager
def _of_64_bits() -> Iterator[None]:
    """Columns are read when they are looked at, and an integer may be too long for one."""
    try:
        yield
    except OverflowError as error:
        raise BadEvent("value", str(error), "a column cannot be read: give 64-bit integers") from None


def _column(dictionary: tuple[str, ...], index: npt.NDArray[np.uint16]) -> list[str]:
    return [dictionary[i] for i in index]


def _methods(names: list[str]) -> npt.NDArray[np.uint8]:
    if set(names) <= {"counter"}:
        return _counters(len(names))
    for row, name in enumerate(names):
        if name not in _METHODS:
            raise BadEvent(f"method[{row}]", name, f"use {', '.join(_METHODS)}")
    return np.array([_METHODS[name] for name in names], np.uint8)


class _JsonPower(PowerBatch):
    """A `PowerBatch` whose columns are still the lists that came, and as long as they should be. Few are ever looked at
    alone: a worker gathers them, and other people's producers send one row a message."""

    __slots__ = ("index", "wire")

    gpu = property(lambda self: np.asarray(self.index, np.uint16))
    t0_ms = property(lambda self: _i64(self.wire.t0_ms))
    t1_ms = property(lambda self: _i64(self.wire.t1_ms))
    energy_uj = property(lambda self: _i64(self.wire.energy_uj))
    method = property(lambda self: _methods(self.wire.method) if self.wire.method else _counters(len(self)))
    busy_ms = property(lambda self: _i64(self.wire.busy_ms or [-1] * len(self)))

    def __init__(self, wire: _PowerJson) -> None:
        self.wire, self.node, self.owner, self.t_ms = wire, wire.node, wire.owner, wire.t_ms
        self.gpus, self.index = _coded(list(zip(wire.gpu_uuid, wire.hardware, strict=True)))
        self.gpus_key = self.gpus

    def __len__(self) -> int:
        return len(self.index)

    @staticmethod
    def gather(batches: Sequence[Any]) -> PowerRows:
        wires = [b.wire for b in batches]
        n = sum(map(len, batches))
        method = _methods(_joined([w.method or [_METHOD_NAMES[0]] * len(w.t0_ms) for w in wires]))
        busy = _joined([w.busy_ms or [-1] * len(w.t0_ms) for w in wires])
        return PowerRows(
            np.fromiter(chain.from_iterable(b.index for b in batches), np.uint16, n),
            _i64(_joined([w.t0_ms for w in wires])), _i64(_joined([w.t1_ms for w in wires])),
            _i64(_joined([w.energy_uj for w in wires])), method, _i64(busy),
        )  # fmt: skip

    def check_lengths(self) -> None:
        checks.lengths(len(self))
        checks.clock(self.t_ms)

    def check(self) -> None:
        with _of_64_bits():
            super().check()


def _power(value: bytes) -> PowerBatch:
    w = _read_power(value)
    n = len(w.gpu_uuid)
    if len(w.hardware) != n:
        raise BadEvent("hardware", len(w.hardware), f"every column needs {n} rows, like the others")
    busy, method = w.busy_ms or w.t0_ms, w.method or w.t0_ms
    if not n == len(w.t0_ms) == len(w.t1_ms) == len(w.energy_uj) == len(method) == len(busy):
        checks.lengths(len(w.t0_ms), gpu=w.gpu_uuid, t1_ms=w.t1_ms, energy_uj=w.energy_uj, method=method, busy_ms=busy)
    return _JsonPower(w)


class _JsonTokens(TokenBatch):
    """The same of a `TokenBatch`."""

    __slots__ = ("codes", "wire")

    tenant = property(lambda self: np.asarray(self.codes[0], np.uint16))
    model = property(lambda self: np.asarray(self.codes[1], np.uint16))
    status = property(lambda self: np.asarray(self.codes[2], np.uint16))
    t_start_ms = property(lambda self: _i64(self.wire.t_start_ms))
    t_first_ms = property(lambda self: _i64(self.wire.t_first_ms or [0] * len(self)))
    t_end_ms = property(lambda self: _i64(self.wire.t_end_ms))
    prompt_tokens = property(lambda self: _i64(self.wire.prompt_tokens))
    cached_tokens = property(lambda self: _i64(self.wire.cached_tokens or [0] * len(self)))
    completion_tokens = property(lambda self: _i64(self.wire.completion_tokens))
    requests = property(lambda self: _i64(self.wire.requests) if self.wire.requests else None)

    def __init__(self, wire: _TokensJson) -> None:
        self.wire, self.t_ms = wire, wire.t_ms
        self.request_id, self.session_id, self.trace_id = wire.request_id, wire.session_id, wire.trace_id
        self.tenants, tenant = _coded(wire.tenant)
        self.models, model = _coded(wire.model)
        self.statuses, status = _coded(wire.status) if wire.status else (("ok",), [0] * len(wire.request_id))
        self.codes = tenant, model, status

    def __len__(self) -> int:
        return len(self.request_id)

    @staticmethod
    def gather(batches: Sequence[Any]) -> TokenRows:
        wires, n = [b.wire for b in batches], sum(map(len, batches))
        tenant, model, status = (
            np.fromiter(chain.from_iterable(b.codes[i] for b in batches), np.uint16, n) for i in range(3)
        )
        start, end = _joined([w.t_start_ms for w in wires]), _joined([w.t_end_ms for w in wires])
        first = _joined([w.t_first_ms or [0] * len(w.t_end_ms) for w in wires])
        cached = _joined([w.cached_tokens or [0] * len(w.t_end_ms) for w in wires])
        tokens = [_joined([w.prompt_tokens for w in wires]), cached, _joined([w.completion_tokens for w in wires])]
        return TokenRows(
            tenant, model, status, _i64(start), _i64(first), _i64(end), np.asarray(tokens, np.int64),
            counted(batches, lambda b: b.requests, np.concatenate) if any(w.requests for w in wires) else None,
        )  # fmt: skip

    def check_lengths(self) -> None:
        checks.lengths(len(self))
        checks.clock(self.t_ms)

    def check(self) -> None:
        with _of_64_bits():
            super().check()


def _tokens(value: bytes) -> TokenBatch:
    w = _read_tokens(value)
    start, ids = w.t_start_ms, w.request_id
    first, cached, status = w.t_first_ms or start, w.cached_tokens or start, w.status or start
    session, trace, number = w.session_id or ids, w.trace_id or ids, w.requests or start
    n = len(start)
    fit = n == len(ids) == len(first) == len(w.t_end_ms) == len(w.tenant) == len(w.model) == len(w.prompt_tokens)
    if not fit or not n == len(cached) == len(w.completion_tokens) == len(status) == len(session) == len(trace) == len(
        number
    ):
        checks.lengths(
            n, tenant=w.tenant, model=w.model, request_id=ids, t_first_ms=first, t_end_ms=w.t_end_ms,
            prompt_tokens=w.prompt_tokens, cached_tokens=cached, completion_tokens=w.completion_tokens, status=status,
            session_id=session, trace_id=trace, requests=number,
        )  # fmt: skip
    return _JsonTokens(w)


def _usage(value: bytes) -> UsageBatch:
    w = _read_usage(value)
    return UsageBatch(
        w.meter, w.unit, w.tenant, w.quantity, _i64(w.t0_ms), _i64(w.t1_ms), w.t_ms, w.origin, w.event_id, w.session_id,
        w.trace_id, w.step, w.dimensions,
    )  # fmt: skip


READ = {topics.POWER: _power, topics.TOKENS: _tokens, topics.USAGE: _usage}
"""By `ce_type`: bytes to a batch of which only the columns' lengths are checked. Raises BadEvent, msgspec.MsgspecError,
ValueError, OverflowError or RecursionError."""


def write(batch: Batch) -> bytes:
    """A checked batch as bytes."""
    b = batch
    wire: msgspec.Struct
    match b:
        case PowerBatch():
            pairs = [b.gpus[i] for i in b.gpu]
            wire = _PowerJson(
                b.node, [uuid for uuid, _ in pairs], [hardware for _, hardware in pairs], b.t0_ms.tolist(),
                b.t1_ms.tolist(), b.energy_uj.tolist(), [_METHOD_NAMES[m] for m in b.method],
                b.busy_ms.tolist(), b.owner, b.t_ms,
            )  # fmt: skip
        case TokenBatch():
            wire = _TokensJson(
                b.request_id, _column(b.tenants, b.tenant), _column(b.models, b.model), b.t_start_ms.tolist(),
                b.t_end_ms.tolist(), b.prompt_tokens.tolist(), b.completion_tokens.tolist(), b.t_first_ms.tolist(),
                b.cached_tokens.tolist(), _column(b.statuses, b.status), b.session_id, b.trace_id, b.t_ms,
                [] if b.requests is None else b.requests.tolist(),
            )  # fmt: skip
        case UsageBatch():
            wire = _UsageJson(
                b.meter, b.unit, b.tenant, b.quantity, b.t0_ms.tolist(), b.t1_ms.tolist(),
                b.t_ms, b.origin, b.event_id, b.session_id, b.trace_id, b.step, tuple(map(dict, b.dimensions)),
            )  # fmt: skip
    return msgspec.json.encode(wire)
