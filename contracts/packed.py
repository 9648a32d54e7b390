"""Packed body, `application/vnd.wattlog.packed`: msgpack with little-endian binary columns.

It decodes 8 times faster than Arrow IPC at 64 rows. Optional columns without values are left out. Unknown fields are
skipped, so that a newer producer can add some.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from contracts import checks, topics
from contracts.batch_columns import BatchColumn, Form
from contracts.columns import I64
from contracts.events import (
    REQUEST_COLUMNS,
    TOKENS,
    USAGE_COLUMNS,
    Batch,
    PowerBatch,
    PowerRows,
    TokenBatch,
    TokenRows,
    UsageBatch,
    join_optional,
    join_texts,
)  # fmt: skip

_U16, _I64, _U8 = np.dtype("<u2"), np.dtype("<i8"), np.dtype("u1")
_CACHE_ENTRIES, _CACHE_BYTES = 16_384, 16_384
"""Most dictionaries kept decoded, and the longest: at worst 256 MiB, a few MiB in a fleet."""

_MINUS_ONE = b"\xff" * 8

pack = msgspec.msgpack.Encoder().encode


class _PowerPacked(msgspec.Struct, omit_defaults=True, gc=False):
    node: str
    gpus: msgspec.Raw
    gpu: bytes
    t0_ms: bytes
    t1_ms: bytes
    energy_uj: bytes
    method: bytes
    busy_ms: bytes = b""
    owner: str = ""
    t_ms: int = 0


_NAMES = ("tenants", "models")
"""Dictionaries of requests that travel as one pair, `names`."""
_TYPES: Mapping[Form, Any] = {
    "dictionary": tuple[str, ...], "code": bytes, "text": tuple[str, ...], "number": bytes,
    "map": tuple[dict[str, str], ...], "scalar": int,
}  # fmt: skip
_EMPTY: Mapping[Form, Any] = {"code": b"", "text": (), "number": b"", "map": (), "scalar": 0}


def _fields(columns: Sequence[BatchColumn]) -> list[Any]:
    """Return the fields of a packed body, in the order in which they are written."""
    fields: list[Any] = []
    for c in columns:
        if c.form == "dictionary":
            if c.name not in _NAMES:  # Always written: msgspec leaves no default out that a function makes.
                fields.append((c.name, _TYPES[c.form], msgspec.field(default_factory=lambda: ("ok",))))
            elif c.name == _NAMES[0]:
                fields.append(("names", tuple[tuple[str, ...], tuple[str, ...]]))
        elif c.optional:
            fields.append((c.name, _TYPES[c.form], _EMPTY[c.form]))
        else:
            fields.append((c.name, _TYPES[c.form]))
    return fields


_TokensPacked = msgspec.defstruct("_TokensPacked", _fields(REQUEST_COLUMNS), omit_defaults=True, gc=False)
_UsagePacked = msgspec.defstruct("_UsagePacked", _fields(USAGE_COLUMNS), omit_defaults=True)


_Gpus = tuple[tuple[str, str], ...]
_read_gpus = msgspec.msgpack.Decoder(_Gpus).decode
_read_power = msgspec.msgpack.Decoder(_PowerPacked).decode
_read_tokens = msgspec.msgpack.Decoder(_TokensPacked).decode
_read_usage = msgspec.msgpack.Decoder(_UsagePacked).decode
_gpus_cache: dict[bytes, _Gpus] = {}
_Value = TypeVar("_Value")


def _cached(cache: dict[bytes, _Value], raw: bytes, read: Any) -> _Value:
    value = cache.get(raw)
    if value is None:
        value = read(raw)
        if len(raw) <= _CACHE_BYTES:
            if len(cache) >= _CACHE_ENTRIES:
                cache.clear()
            cache[raw] = value
    return value


def _i64(raw: bytes) -> I64:
    return np.frombuffer(raw, _I64)


def _u16(raw: bytes) -> npt.NDArray[np.uint16]:
    return np.frombuffer(raw, _U16)


def _le(column: npt.NDArray[np.generic], dtype: np.dtype[Any]) -> bytes:
    return np.ascontiguousarray(column, dtype).tobytes()


class _PackedPower(PowerBatch):
    """A `PowerBatch` whose columns are still the bytes of the body, of checked lengths.

    Few are read alone: a worker gathers many.
    """

    __slots__ = ("_rows", "wire")

    gpu = property(lambda self: _u16(self.wire.gpu))
    t0_ms = property(lambda self: _i64(self.wire.t0_ms))
    t1_ms = property(lambda self: _i64(self.wire.t1_ms))
    energy_uj = property(lambda self: _i64(self.wire.energy_uj))
    method = property(lambda self: np.frombuffer(self.wire.method, _U8))
    busy_ms = property(lambda self: _i64(self.wire.busy_ms or self._rows * _MINUS_ONE))

    def __init__(self, wire: _PowerPacked) -> None:
        self.wire, self._rows = wire, len(wire.method)
        self.node, self.owner, self.t_ms, self.gpus_key = wire.node, wire.owner, wire.t_ms, bytes(wire.gpus)
        self.gpus = _cached(_gpus_cache, self.gpus_key, _read_gpus)

    def __len__(self) -> int:
        return self._rows

    @staticmethod
    def gather(batches: Sequence[Any]) -> PowerRows:
        wires, join = [b.wire for b in batches], b"".join
        return PowerRows(
            gpu=_u16(join([w.gpu for w in wires])),
            t0_ms=_i64(join([w.t0_ms for w in wires])),
            t1_ms=_i64(join([w.t1_ms for w in wires])),
            energy_uj=_i64(join([w.energy_uj for w in wires])),
            method=np.frombuffer(join([w.method for w in wires]), _U8),
            busy_ms=_i64(join([w.busy_ms or len(w.method) * _MINUS_ONE for w in wires])),
        )

    def check_lengths(self) -> None:
        checks.lengths(self._rows)
        checks.clock(self.t_ms)


def _power(value: bytes) -> PowerBatch:
    w = _read_power(value)
    n = len(w.method)
    if len(w.gpu) != 2 * n or not (
        len(w.t0_ms) == len(w.t1_ms) == len(w.energy_uj) == 8 * n == (len(w.busy_ms) or 8 * n)
    ):
        checks.lengths(
            len(_i64(w.t0_ms)), gpu=_u16(w.gpu), t1_ms=_i64(w.t1_ms), energy_uj=_i64(w.energy_uj), method=w.method,
            busy_ms=_i64(w.busy_ms or w.t0_ms),
        )  # fmt: skip
    return _PackedPower(w)


class _PackedTokens(TokenBatch):
    """A `TokenBatch` whose columns are still the bytes of the body, of checked lengths.

    Its columns are properties, which are set below from their declarations.
    """

    __slots__ = ("_rows", "wire")

    def __init__(self, wire: Any) -> None:
        self.wire, self._rows = wire, len(wire.request_id)
        self.tenants, self.models = wire.names
        self.statuses, self.t_ms = wire.statuses, wire.t_ms

    def __len__(self) -> int:
        return self._rows

    @staticmethod
    def gather(batches: Sequence[Any]) -> TokenRows:
        wires, counts = [b.wire for b in batches], [b._rows for b in batches]

        join = b"".join

        def tokens(name: str) -> bytes:
            parts = list(map(attrgetter(name), wires))
            if not all(parts):  # A column that is left out has no tokens.
                parts = [part or bytes(8 * n) for part, n in zip(parts, counts, strict=True)]
            return join(parts)

        return TokenRows(
            tenant=_u16(join([w.tenant for w in wires])),
            model=_u16(join([w.model for w in wires])),
            status=_u16(join([w.status or bytes(2 * n) for w, n in zip(wires, counts, strict=True)])),
            t_start_ms=_i64(join([w.t_start_ms for w in wires])),
            t_first_ms=_i64(join([w.t_first_ms for w in wires])),
            t_end_ms=_i64(join([w.t_end_ms for w in wires])),
            tokens=_i64(join(map(tokens, TOKENS))).reshape(len(TOKENS), -1),
            requests=join_optional(batches, "requests") if any(w.requests for w in wires) else None,
            queue_ms=join_optional(batches, "queue_ms") if any(w.queue_ms for w in wires) else None,
            texts=join_texts(wires),
        )

    def check_lengths(self) -> None:
        checks.lengths(self._rows)
        checks.clock(self.t_ms)


def _code_view(c: BatchColumn) -> property:
    if not c.optional:
        return property(lambda self: _u16(getattr(self.wire, c.name)))
    return property(lambda self: _u16(getattr(self.wire, c.name) or bytes(2 * self._rows)))


def _number_view(c: BatchColumn) -> property:
    if not c.optional:
        return property(lambda self: _i64(getattr(self.wire, c.name)))
    return property(lambda self: _i64(raw) if (raw := getattr(self.wire, c.name)) else None)


_WIDTHS = {c.name: 2 if c.form == "code" else 8 for c in REQUEST_COLUMNS if c.form in ("code", "number")}
"""Bytes of a row, by binary column."""
for _c in REQUEST_COLUMNS:
    if _c.form == "text":
        setattr(_PackedTokens, _c.name, property(attrgetter(f"wire.{_c.name}")))
    elif _c.form == "code":
        setattr(_PackedTokens, _c.name, _code_view(_c))
    elif _c.form == "number":
        setattr(_PackedTokens, _c.name, _number_view(_c))

_SIZED = [c for c in REQUEST_COLUMNS if c.form in ("code", "text", "number")]
_sized_columns = attrgetter(*(c.name for c in _SIZED))
_row_widths = [(_WIDTHS.get(c.name, 1), c.optional) for c in _SIZED]
_good_lengths: set[tuple[int, ...]] = set()
"""Lengths of all columns of a body that fit together: most messages have those of one before."""


def _fits(wire: Any) -> bool:
    """True if every column is as long as the requests' ids, or is left out where it is optional."""
    lengths = tuple(map(len, _sized_columns(wire)))
    if lengths in _good_lengths:
        return True
    n = len(wire.request_id)
    pairs = zip(lengths, _row_widths, strict=True)
    fits = all(length == width * n or (optional and not length) for length, (width, optional) in pairs)
    if fits:
        if len(_good_lengths) >= _CACHE_ENTRIES:
            _good_lengths.clear()
        _good_lengths.add(lengths)
    return fits


def _tokens(value: bytes) -> TokenBatch:
    wire = _read_tokens(value)
    if not _fits(wire):
        read: Mapping[str, Any] = {"code": _u16, "number": _i64, "text": tuple}
        sent = [c for c in _SIZED if getattr(wire, c.name) or not c.optional]
        columns = {c.name: read[c.form](getattr(wire, c.name)) for c in sent}
        checks.lengths(len(columns.pop("t_start_ms")), **columns)
    return _PackedTokens(wire)


_USAGE_NUMBERS = tuple(c.name for c in USAGE_COLUMNS if c.form == "number")


def _usage(value: bytes) -> UsageBatch:
    wire = _read_usage(value)
    columns: dict[str, Any] = {c.name: getattr(wire, c.name) for c in USAGE_COLUMNS}
    for name in _USAGE_NUMBERS:
        columns[name] = _i64(columns[name])
    return UsageBatch(**columns)


READ = {topics.POWER: _power, topics.TOKENS: _tokens, topics.USAGE: _usage}
"""Readers by `ce_type`: from bytes to a batch of which only the columns' lengths are checked. They raise BadEvent,
msgspec.MsgspecError, ValueError or RecursionError."""


def write(batch: Batch) -> bytes:
    """Return a checked batch as bytes."""
    b = batch
    wire: msgspec.Struct
    match b:
        case PowerBatch():
            busy = _le(b.busy_ms, _I64) if (b.busy_ms >= 0).any() else b""
            wire = _PowerPacked(
                node=b.node,
                gpus=msgspec.Raw(pack(b.gpus)),
                gpu=_le(b.gpu, _U16),
                t0_ms=_le(b.t0_ms, _I64),
                t1_ms=_le(b.t1_ms, _I64),
                energy_uj=_le(b.energy_uj, _I64),
                method=_le(b.method, _U8),
                busy_ms=busy,
                owner=b.owner,
                t_ms=b.t_ms,
            )
        case TokenBatch():
            values = {c.name: _packed_column(c, b) for c in REQUEST_COLUMNS if c.name not in _NAMES}
            wire = _TokensPacked(names=(b.tenants, b.models), **values)
        case UsageBatch():
            wire = _UsagePacked(**{c.name: _packed_column(c, b) for c in USAGE_COLUMNS})
    return pack(wire)


def _packed_column(c: BatchColumn, batch: TokenBatch | UsageBatch) -> Any:
    """Return a column in its packed form; empty where the column is left out."""
    value = getattr(batch, c.name)
    match c.form:
        case "code":
            default = c.optional and getattr(batch, c.dictionary) == ("ok",) and not value.any()
            return b"" if default else _le(value, _U16)
        case "number":
            return b"" if value is None else _le(value, _I64)
        case "map":
            return tuple(map(dict, value))
    return value
