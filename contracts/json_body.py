"""JSON body, `application/json`: the columns as lists in one object. Other people's producers send it.

Rows hold their texts themselves, without dictionaries. An unknown field is an error, because it is most likely a
misspelt optional one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from operator import attrgetter
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from contracts import checks, topics
from contracts.batch_columns import BatchColumn, Form
from contracts.columns import I64
from contracts.errors import BadEvent
from contracts.events import (
    REQUEST_COLUMNS,
    TOKENS,
    USAGE_COLUMNS,
    Batch,
    Method,
    PowerBatch,
    PowerRows,
    TokenBatch,
    TokenRows,
    UsageBatch,
    join_optional,
    join_texts,
)  # fmt: skip

_Value = TypeVar("_Value")
_METHODS = {m.name.lower(): m.value for m in (Method.COUNTER, Method.INTEGRATED, Method.ESTIMATED, Method.CORRECTION)}
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


_TYPES: Mapping[Form, Any] = {
    "code": list[str], "text": tuple[str, ...], "number": list[int], "map": tuple[dict[str, str], ...], "scalar": int,
}  # fmt: skip
_EMPTY: Mapping[Form, Any] = {"text": (), "map": (), "scalar": 0}


def _fields(columns: Sequence[BatchColumn]) -> list[Any]:
    """Return the fields of a JSON body in the order in which they are written: required ones first."""
    fields: list[Any] = [(c.name, _TYPES[c.form]) for c in columns if _required(c)]
    for c in columns:
        if not _required(c) and c.form != "dictionary":
            default = _EMPTY[c.form] if c.form in _EMPTY else msgspec.field(default_factory=list)
            fields.append((c.name, _TYPES[c.form], default))
    return fields


def _required(c: BatchColumn) -> bool:
    return not (c.optional or c.optional_in_json or c.form == "dictionary")


# The request's id is what a person looks for first in a JSON body.
_JSON_ORDER = sorted(REQUEST_COLUMNS, key=lambda c: c.name != "request_id")
_TokensJson = msgspec.defstruct(
    "_TokensJson", _fields(_JSON_ORDER), omit_defaults=True, forbid_unknown_fields=True, gc=False
)
_UsageJson = msgspec.defstruct(
    "_UsageJson", _fields(USAGE_COLUMNS), omit_defaults=True, forbid_unknown_fields=True, gc=False
)

_read_power = msgspec.json.Decoder(_PowerJson).decode
_read_tokens = msgspec.json.Decoder(_TokensJson).decode
_read_usage = msgspec.json.Decoder(_UsageJson).decode


def _i64(values: list[int]) -> I64:
    return np.asarray(values, np.int64)


def _encode_column(values: list[_Value]) -> tuple[tuple[_Value, ...], list[int]]:
    """Return a column as (dictionary in order of appearance, index)."""
    if len(values) == 1:  # What other people's producers send is mostly one row a message.
        return (values[0],), [0]
    seen: dict[_Value, int] = {}
    index = [seen.setdefault(v, len(seen)) for v in values]
    return tuple(seen), index


def _join(columns: Iterable[list[_Value]]) -> list[_Value]:
    return list(chain.from_iterable(columns))


def _counter_methods(n: int) -> npt.NDArray[np.uint8]:
    return np.full(n, Method.COUNTER, np.uint8)


@contextmanager
def _of_64_bits() -> Iterator[None]:
    """Turn an OverflowError into BadEvent: columns are converted lazily, and an integer may exceed 64 bits."""
    try:
        yield
    except OverflowError as error:
        raise BadEvent("value", str(error), "a column cannot be read: give 64-bit integers") from None


def _decode_codes(dictionary: tuple[str, ...], index: npt.NDArray[np.uint16]) -> list[str]:
    return [dictionary[i] for i in index]


def _methods(names: list[str]) -> npt.NDArray[np.uint8]:
    if set(names) <= {"counter"}:
        return _counter_methods(len(names))
    for row, name in enumerate(names):
        if name not in _METHODS:
            raise BadEvent(f"method[{row}]", name, f"use {', '.join(_METHODS)}")
    return np.array([_METHODS[name] for name in names], np.uint8)


class _JsonPower(PowerBatch):
    """A `PowerBatch` whose columns are still the lists of the body, of checked lengths.

    Few are read alone: a worker gathers many, and other people's producers send one row per message.
    """

    __slots__ = ("index", "wire")

    gpu = property(lambda self: np.asarray(self.index, np.uint16))
    t0_ms = property(lambda self: _i64(self.wire.t0_ms))
    t1_ms = property(lambda self: _i64(self.wire.t1_ms))
    energy_uj = property(lambda self: _i64(self.wire.energy_uj))
    method = property(lambda self: _methods(self.wire.method) if self.wire.method else _counter_methods(len(self)))
    busy_ms = property(lambda self: _i64(self.wire.busy_ms or [-1] * len(self)))

    def __init__(self, wire: _PowerJson) -> None:
        self.wire, self.node, self.owner, self.t_ms = wire, wire.node, wire.owner, wire.t_ms
        self.gpus, self.index = _encode_column(list(zip(wire.gpu_uuid, wire.hardware, strict=True)))
        self.gpus_key = self.gpus

    def __len__(self) -> int:
        return len(self.index)

    @staticmethod
    def gather(batches: Sequence[Any]) -> PowerRows:
        wires = [b.wire for b in batches]
        n = sum(map(len, batches))
        method = _methods(_join([w.method or [_METHOD_NAMES[0]] * len(w.t0_ms) for w in wires]))
        busy = _join([w.busy_ms or [-1] * len(w.t0_ms) for w in wires])
        return PowerRows(
            gpu=np.fromiter(chain.from_iterable(b.index for b in batches), np.uint16, n),
            t0_ms=_i64(_join([w.t0_ms for w in wires])),
            t1_ms=_i64(_join([w.t1_ms for w in wires])),
            energy_uj=_i64(_join([w.energy_uj for w in wires])),
            method=method,
            busy_ms=_i64(busy),
        )

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
    """A `TokenBatch` whose columns are still the lists of the body, of checked lengths.

    Its columns are properties, which are set below from their declarations.
    """

    __slots__ = ("_rows", "codes", "wire")

    def __init__(self, wire: Any) -> None:
        self.wire, self.t_ms, self._rows = wire, wire.t_ms, len(wire.request_id)
        self.tenants, tenant = _encode_column(wire.tenant)
        self.models, model = _encode_column(wire.model)
        self.statuses, status = _encode_column(wire.status) if wire.status else (("ok",), [0] * len(wire.request_id))
        self.codes = tenant, model, status

    def __len__(self) -> int:
        return self._rows

    @staticmethod
    def gather(batches: Sequence[Any]) -> TokenRows:
        wires, n = [b.wire for b in batches], sum(map(len, batches))
        tenant, model, status = (
            np.fromiter(chain.from_iterable(b.codes[i] for b in batches), np.uint16, n) for i in range(3)
        )

        def tokens(name: str) -> list[int]:
            parts = list(map(attrgetter(name), wires))
            if not all(parts):  # A column that is left out has no tokens.
                parts = [part or [0] * len(b) for part, b in zip(parts, batches, strict=True)]
            return _join(parts)

        return TokenRows(
            tenant=tenant,
            model=model,
            status=status,
            t_start_ms=_i64(_join([w.t_start_ms for w in wires])),
            t_first_ms=_i64(_join([w.t_first_ms or [0] * len(w.t_end_ms) for w in wires])),
            t_end_ms=_i64(_join([w.t_end_ms for w in wires])),
            tokens=np.asarray([tokens(name) for name in TOKENS], np.int64),
            requests=join_optional(batches, "requests") if any(w.requests for w in wires) else None,
            queue_ms=join_optional(batches, "queue_ms") if any(w.queue_ms for w in wires) else None,
            texts=join_texts(wires),
        )

    def check_lengths(self) -> None:
        checks.lengths(len(self))
        checks.clock(self.t_ms)

    def check(self) -> None:
        with _of_64_bits():
            super().check()


def _code_view(i: int) -> property:
    return property(lambda self: np.asarray(self.codes[i], np.uint16))


def _number_view(c: BatchColumn) -> property:
    def read(self: _JsonTokens) -> I64 | None:
        column = getattr(self.wire, c.name)
        if column or not c.optional:
            return _i64(column or [0] * len(self))
        return None

    return property(read)


for _i, _c in enumerate(c for c in REQUEST_COLUMNS if c.form == "code"):
    setattr(_JsonTokens, _c.name, _code_view(_i))
for _c in REQUEST_COLUMNS:
    if _c.form == "text":
        setattr(_JsonTokens, _c.name, property(attrgetter(f"wire.{_c.name}")))
    elif _c.form == "number":
        setattr(_JsonTokens, _c.name, _number_view(_c))

_SIZED = [c.name for c in REQUEST_COLUMNS if c.form in ("code", "text", "number")]
_OPTIONAL = {c.name for c in REQUEST_COLUMNS if not _required(c)}
_sized_columns = attrgetter(*_SIZED)
_LENGTHS_KEPT = 16_384
_good_lengths: set[tuple[int, ...]] = set()
"""Lengths of all columns of a body that fit together: most messages have those of one before."""


def _tokens(value: bytes) -> TokenBatch:
    wire: Any = _read_tokens(value)
    lengths = tuple(map(len, _sized_columns(wire)))
    if lengths not in _good_lengths:
        columns = {name: getattr(wire, name) for name in _SIZED}
        sent = {name: column for name, column in columns.items() if column or name not in _OPTIONAL}
        checks.lengths(len(wire.t_start_ms), **sent)
        if len(_good_lengths) >= _LENGTHS_KEPT:
            _good_lengths.clear()
        _good_lengths.add(lengths)
    return _JsonTokens(wire)


_USAGE_NUMBERS = tuple(c.name for c in USAGE_COLUMNS if c.form == "number")


def _usage(value: bytes) -> UsageBatch:
    wire = _read_usage(value)
    columns: dict[str, Any] = {c.name: getattr(wire, c.name) for c in USAGE_COLUMNS}
    for name in _USAGE_NUMBERS:
        columns[name] = _i64(columns[name])
    return UsageBatch(**columns)


READ = {topics.POWER: _power, topics.TOKENS: _tokens, topics.USAGE: _usage}
"""Readers by `ce_type`: from bytes to a batch of which only the columns' lengths are checked. They raise BadEvent,
msgspec.MsgspecError, ValueError, OverflowError or RecursionError."""


def write(batch: Batch) -> bytes:
    """Return a checked batch as bytes."""
    b = batch
    wire: msgspec.Struct
    match b:
        case PowerBatch():
            pairs = [b.gpus[i] for i in b.gpu]
            wire = _PowerJson(
                node=b.node,
                gpu_uuid=[uuid for uuid, _ in pairs],
                hardware=[hardware for _, hardware in pairs],
                t0_ms=b.t0_ms.tolist(),
                t1_ms=b.t1_ms.tolist(),
                energy_uj=b.energy_uj.tolist(),
                method=[_METHOD_NAMES[m] for m in b.method],
                busy_ms=b.busy_ms.tolist(),
                owner=b.owner,
                t_ms=b.t_ms,
            )
        case TokenBatch():
            wire = _TokensJson(**{c.name: _json_column(c, b) for c in REQUEST_COLUMNS if c.form != "dictionary"})
        case UsageBatch():
            wire = _UsageJson(**{c.name: _json_column(c, b) for c in USAGE_COLUMNS})
    return msgspec.json.encode(wire)


def _json_column(c: BatchColumn, batch: TokenBatch | UsageBatch) -> Any:
    """Return a column as JSON has it; empty where the batch does not have the column."""
    value = getattr(batch, c.name)
    match c.form:
        case "code":
            return _decode_codes(getattr(batch, c.dictionary), value)
        case "number":
            return [] if value is None else value.tolist()
        case "map":
            return tuple(map(dict, value))
    return value
