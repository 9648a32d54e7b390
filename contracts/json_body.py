"""The JSON body: the same columns as lists in one object, `application/json`. What other people's producers send.

Texts stand in the rows themselves, without dictionaries. An unknown field is an error here: it is most likely a
misspelt optional one.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np
import numpy.typing as npt

from contracts import topics
from contracts.errors import BadEvent
from contracts.events import Batch, Method, PowerBatch, TokenBatch, UsageBatch
from contracts.packed import pack
from contracts.units import I64

_METHODS = {m.name.lower(): m.value for m in (Method.COUNTER, Method.INTEGRATED, Method.ESTIMATED)}
_METHOD_NAMES = list(_METHODS)


class _PowerJson(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
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


class _TokensJson(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
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


class _UsageJson(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    meter: tuple[str, ...]
    unit: tuple[str, ...]
    tenant: tuple[str, ...]
    quantity: tuple[str, ...]
    t0_ms: list[int]
    t1_ms: list[int]
    t_ms: int = 0


_read_power = msgspec.json.Decoder(_PowerJson).decode
_read_tokens = msgspec.json.Decoder(_TokensJson).decode
_read_usage = msgspec.json.Decoder(_UsageJson).decode


def _i64(values: list[int]) -> I64:
    return np.asarray(values, np.int64)


def _index(values: Iterable[str]) -> tuple[tuple[str, ...], npt.NDArray[np.uint16]]:
    """A text column as (dictionary in order of appearance, index)."""
    seen: dict[str, int] = {}
    index = [seen.setdefault(v, len(seen)) for v in values]
    return tuple(seen), np.asarray(index, np.uint16)


def _column(dictionary: tuple[str, ...], index: npt.NDArray[np.uint16]) -> list[str]:
    return [dictionary[i] for i in index]


def _methods(names: list[str]) -> npt.NDArray[np.uint8]:
    for row, name in enumerate(names):
        if name not in _METHODS:
            raise BadEvent(f"method[{row}]", name, f"use {', '.join(_METHODS)}")
    return np.array([_METHODS[name] for name in names], np.uint8)


def _power(value: bytes) -> PowerBatch:
    w = _read_power(value)
    n = len(w.gpu_uuid)
    if len(w.hardware) != n:
        raise BadEvent("hardware", len(w.hardware), f"every column needs {n} rows, like the others")
    seen: dict[tuple[str, str], int] = {}
    gpu = [seen.setdefault(pair, len(seen)) for pair in zip(w.gpu_uuid, w.hardware, strict=True)]
    gpus = tuple(seen)
    method = _methods(w.method) if w.method else np.full(n, Method.COUNTER, np.uint8)
    return PowerBatch(
        w.node, gpus, np.asarray(gpu, np.uint16), _i64(w.t0_ms), _i64(w.t1_ms), _i64(w.energy_uj), method,
        _i64(w.busy_ms or [-1] * n), w.owner, w.t_ms, pack(gpus),
    )  # fmt: skip


def _tokens(value: bytes) -> TokenBatch:
    w = _read_tokens(value)
    n = len(w.t_start_ms)
    tenants, tenant = _index(w.tenant)
    models, model = _index(w.model)
    statuses, status = _index(w.status or ["ok"] * n)
    zeros = [0] * n
    return TokenBatch(
        tenants, tenant, models, model, w.request_id, _i64(w.t_start_ms), _i64(w.t_first_ms or zeros), _i64(w.t_end_ms),
        _i64(w.prompt_tokens), _i64(w.cached_tokens or zeros), _i64(w.completion_tokens), statuses, status,
        w.session_id, w.trace_id, w.t_ms, pack((tenants, models)),
    )  # fmt: skip


def _usage(value: bytes) -> UsageBatch:
    w = _read_usage(value)
    return UsageBatch(w.meter, w.unit, w.tenant, w.quantity, _i64(w.t0_ms), _i64(w.t1_ms), w.t_ms)


READ = {topics.POWER: _power, topics.TOKENS: _tokens, topics.USAGE: _usage}
"""By `ce_type`: bytes to an unchecked batch. Raises BadEvent, msgspec.MsgspecError, ValueError, OverflowError or
RecursionError."""


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
            )  # fmt: skip
        case UsageBatch():
            wire = _UsageJson(b.meter, b.unit, b.tenant, b.quantity, b.t0_ms.tolist(), b.t1_ms.tolist(), b.t_ms)
    return msgspec.json.encode(wire)
