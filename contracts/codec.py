"""Events to and from Kafka messages: CloudEvents 1.0, Kafka binary mode.

Two bodies, told apart by the `content-type` header:

* `application/vnd.wattlog.packed`: msgpack with little-endian binary columns. What our producers send.
* `application/json`: the same columns as JSON lists, one object. What other people's producers send.

Headers: `ce_specversion`, `ce_type` (with its version), `ce_source`, `ce_id` = `EPOCH.SEQ`, `ce_subject` =
`cluster/workload`, `ce_time`. `decode` raises BadEvent for whatever cannot be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from contracts import topics
from contracts.errors import BadEvent
from contracts.events import Batch, Event, Method, PowerBatch, TokenBatch, UsageBatch
from contracts.units import I64, rfc3339

PACKED = "application/vnd.wattlog.packed"
JSON = "application/json"

Headers = list[tuple[str, bytes]]

_METHOD_OF = {m.name.lower(): m.value for m in (Method.COUNTER, Method.INTEGRATED, Method.ESTIMATED)}
_METHOD_NAMES = [m.name.lower() for m in Method]
_U16, _I64, _U8 = np.dtype("<u2"), np.dtype("<i8"), np.dtype("u1")
_pack = msgspec.msgpack.Encoder().encode


class _PowerPacked(msgspec.Struct, omit_defaults=True):
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


class _TokensPacked(msgspec.Struct, omit_defaults=True):
    names: msgspec.Raw
    tenant: bytes
    model: bytes
    request_id: tuple[str, ...]
    t_start_ms: bytes
    t_first_ms: bytes
    t_end_ms: bytes
    prompt_tokens: bytes
    cached_tokens: bytes
    completion_tokens: bytes
    statuses: tuple[str, ...] = ("ok",)
    status: bytes = b""
    session_id: tuple[str, ...] = ()
    trace_id: tuple[str, ...] = ()
    t_ms: int = 0


class _UsagePacked(msgspec.Struct, omit_defaults=True):
    meter: tuple[str, ...]
    unit: tuple[str, ...]
    tenant: tuple[str, ...]
    quantity: tuple[str, ...]
    t0_ms: bytes
    t1_ms: bytes
    t_ms: int = 0


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


_Gpus = msgspec.msgpack.Decoder(tuple[tuple[str, str], ...]).decode
_Names = msgspec.msgpack.Decoder(tuple[tuple[str, ...], tuple[str, ...]]).decode
_packed_power = msgspec.msgpack.Decoder(_PowerPacked).decode
_packed_tokens = msgspec.msgpack.Decoder(_TokensPacked).decode
_packed_usage = msgspec.msgpack.Decoder(_UsagePacked).decode
_json_power = msgspec.json.Decoder(_PowerJson).decode
_json_tokens = msgspec.json.Decoder(_TokensJson).decode
_json_usage = msgspec.json.Decoder(_UsageJson).decode
_gpus_cache: dict[bytes, tuple[tuple[str, str], ...]] = {}
_names_cache: dict[bytes, tuple[tuple[str, ...], tuple[str, ...]]] = {}
_CACHE_MAX = 65_536


def topic_of(batch: Batch) -> str:
    """The topic, and so the `ce_type`, of a batch."""
    match batch:
        case PowerBatch():
            return topics.POWER
        case TokenBatch():
            return topics.TOKENS
        case UsageBatch():
            return topics.USAGE


def encode(event: Event, *, content_type: str = PACKED) -> tuple[Headers, bytes]:
    """An event as (headers, value). Checks it first: BadEvent here is a producer's own fault."""
    event.batch.check()
    body = (_encode_packed if content_type == PACKED else _encode_json)(event.batch)
    return envelope(
        type_=topic_of(event.batch), source=event.source, id_=f"{event.epoch}.{event.seq}",
        subject=topics.key(event.cluster, event.workload), t_ms=event.batch.event_ms, content_type=content_type,
    ), body  # fmt: skip


def envelope(*, type_: str, source: str, id_: str, subject: str, t_ms: int, content_type: str) -> Headers:
    """The CloudEvents headers of one message, in Kafka binary mode."""
    return [
        ("ce_specversion", b"1.0"),
        ("ce_type", type_.encode()),
        ("ce_source", source.encode()),
        ("ce_id", id_.encode()),
        ("ce_subject", subject.encode()),
        ("ce_time", rfc3339(t_ms).encode()),
        ("content-type", content_type.encode()),
    ]


AnyHeaders = Mapping[str, bytes | None] | Iterable[tuple[str, bytes | None]] | None
"""Headers as the various clients hand them out."""


def decode(headers: AnyHeaders, value: bytes | None) -> Event:
    """A Kafka message as a checked event. Raises BadEvent, and nothing else, for whatever cannot be read."""
    if value is None:
        raise BadEvent("value", None, "a tombstone means nothing here; send a body")
    try:
        got = headers if isinstance(headers, Mapping) else dict(headers or ())
        type_ = _text(got, "ce_type")
        content_type = _text(got, "content-type").partition(";")[0].strip()
        epoch, seq = _identity(_text(got, "ce_id"))
        cluster, slash, workload = _text(got, "ce_subject").partition("/")
        if not (cluster and slash and workload):
            raise BadEvent("ce_subject", f"{cluster}{slash}{workload}", "give 'cluster/workload'")
        batch = _decode_body(type_, content_type, value)
        batch.check()
        return Event(_text(got, "ce_source"), epoch, seq, cluster, workload, batch)
    except msgspec.MsgspecError as error:
        raise BadEvent("value", value[:40], f"the body does not fit its type: {error}") from None
    except UnicodeDecodeError as error:
        raise BadEvent("headers", error.object[:40], "headers are UTF-8 text") from None
    except (OverflowError, ValueError) as error:
        raise BadEvent("value", value[:40], f"a column cannot be read: {error}") from None


def _decode_body(type_: str, content_type: str, value: bytes) -> Batch:
    if content_type not in (PACKED, JSON):
        raise BadEvent("content-type", content_type, f"send {PACKED} or {JSON}")
    packed = content_type == PACKED
    if type_ == topics.POWER:
        return _power_packed(value) if packed else _power_json(value)
    if type_ == topics.TOKENS:
        return _tokens_packed(value) if packed else _tokens_json(value)
    if type_ == topics.USAGE:
        return _usage_packed(value) if packed else _usage_json(value)
    raise BadEvent("ce_type", type_, f"this version reads {', '.join((*topics.JOINED, topics.USAGE))}")


def _identity(text: str) -> tuple[int, int]:
    epoch, dot, seq = text.partition(".")
    if not (dot and epoch.isdecimal() and seq.isdecimal() and text.isascii()) or len(epoch) > 19 or len(seq) > 15:
        raise BadEvent("ce_id", text, "give EPOCH.SEQ: the start of this run in ms and a count from 0 without holes")
    return int(epoch), int(seq)


def _text(headers: Mapping[str, bytes | None], name: str) -> str:
    raw = headers.get(name)
    if not raw:
        raise BadEvent(name, raw, "this header is required")
    return raw.decode()


_Value = TypeVar("_Value")


def _cached(cache: dict[bytes, _Value], raw: bytes, read: Any) -> _Value:
    value = cache.get(raw)
    if value is None:
        if len(cache) >= _CACHE_MAX:
            cache.clear()
        value = cache[raw] = read(raw)
    return value


def _i64(raw: bytes) -> I64:
    return np.frombuffer(raw, _I64)


def _le(column: npt.NDArray[np.generic], dtype: np.dtype[Any]) -> bytes:
    return np.ascontiguousarray(column, dtype).tobytes()


def _index(values: Iterable[str]) -> tuple[tuple[str, ...], npt.NDArray[np.uint16]]:
    """A text column as (dictionary in order of appearance, index)."""
    seen: dict[str, int] = {}
    index = [seen.setdefault(v, len(seen)) for v in values]
    return tuple(seen), np.asarray(index, np.uint16)


def _names(dictionary: tuple[str, ...], index: npt.NDArray[np.uint16]) -> list[str]:
    return [dictionary[i] for i in index]


def _power_packed(value: bytes) -> PowerBatch:
    w = _packed_power(value)
    raw = bytes(w.gpus)
    t0 = _i64(w.t0_ms)
    busy = _i64(w.busy_ms) if w.busy_ms else np.full(len(t0), -1, np.int64)
    return PowerBatch(
        w.node, _cached(_gpus_cache, raw, _Gpus), np.frombuffer(w.gpu, _U16), t0, _i64(w.t1_ms), _i64(w.energy_uj),
        np.frombuffer(w.method, _U8), busy, w.owner, w.t_ms, raw,
    )  # fmt: skip


def _power_json(value: bytes) -> PowerBatch:
    w = _json_power(value)
    if len(w.gpu_uuid) != len(w.hardware):
        raise BadEvent("hardware", len(w.hardware), f"every column needs {len(w.gpu_uuid)} rows, like the others")
    pairs: dict[tuple[str, str], int] = {}
    gpu = [pairs.setdefault(p, len(pairs)) for p in zip(w.gpu_uuid, w.hardware, strict=True)]
    method = [_METHOD_OF.get(m, 255) for m in w.method] if w.method else [Method.COUNTER] * len(gpu)
    busy = w.busy_ms or [-1] * len(gpu)
    gpus = tuple(pairs)
    return PowerBatch(
        w.node, gpus, np.asarray(gpu, np.uint16), np.asarray(w.t0_ms, np.int64), np.asarray(w.t1_ms, np.int64),
        np.asarray(w.energy_uj, np.int64), np.asarray(method, np.uint8), np.asarray(busy, np.int64), w.owner, w.t_ms, _pack(gpus),
    )  # fmt: skip


def _tokens_packed(value: bytes) -> TokenBatch:
    w = _packed_tokens(value)
    raw = bytes(w.names)
    tenants, models = _cached(_names_cache, raw, _Names)
    start = _i64(w.t_start_ms)
    status = np.frombuffer(w.status, _U16) if w.status else np.zeros(len(start), np.uint16)
    return TokenBatch(
        tenants, np.frombuffer(w.tenant, _U16), models, np.frombuffer(w.model, _U16), w.request_id, start, _i64(w.t_first_ms),
        _i64(w.t_end_ms), _i64(w.prompt_tokens), _i64(w.cached_tokens), _i64(w.completion_tokens), w.statuses, status,
        w.session_id, w.trace_id, w.t_ms, raw,
    )  # fmt: skip


def _tokens_json(value: bytes) -> TokenBatch:
    w = _json_tokens(value)
    n = len(w.t_start_ms)
    tenants, tenant = _index(w.tenant)
    models, model = _index(w.model)
    statuses, status = _index(w.status or ["ok"] * n)
    zeros = [0] * n
    return TokenBatch(
        tenants, tenant, models, model, w.request_id, np.asarray(w.t_start_ms, np.int64),
        np.asarray(w.t_first_ms or zeros, np.int64), np.asarray(w.t_end_ms, np.int64), np.asarray(w.prompt_tokens, np.int64),
        np.asarray(w.cached_tokens or zeros, np.int64), np.asarray(w.completion_tokens, np.int64), statuses, status,
        w.session_id, w.trace_id, w.t_ms, _pack((tenants, models)),
    )  # fmt: skip


def _usage_packed(value: bytes) -> UsageBatch:
    w = _packed_usage(value)
    return UsageBatch(w.meter, w.unit, w.tenant, w.quantity, _i64(w.t0_ms), _i64(w.t1_ms), w.t_ms)


def _usage_json(value: bytes) -> UsageBatch:
    w = _json_usage(value)
    return UsageBatch(
        w.meter,
        w.unit,
        w.tenant,
        w.quantity,
        np.asarray(w.t0_ms, np.int64),
        np.asarray(w.t1_ms, np.int64),
        w.t_ms,
    )


def _encode_packed(batch: Batch) -> bytes:
    match batch:
        case PowerBatch():
            busy = _le(batch.busy_ms, _I64) if (batch.busy_ms >= 0).any() else b""
            return _pack(
                _PowerPacked(
                    batch.node,
                    msgspec.Raw(_pack(batch.gpus)),
                    _le(batch.gpu, _U16),
                    _le(batch.t0_ms, _I64),
                    _le(batch.t1_ms, _I64),
                    _le(batch.energy_uj, _I64),
                    _le(batch.method, _U8),
                    busy,
                    batch.owner,
                    batch.t_ms,
                )  # fmt: skip
            )
        case TokenBatch():
            status = _le(batch.status, _U16) if batch.status.any() or batch.statuses != ("ok",) else b""
            return _pack(
                _TokensPacked(
                    msgspec.Raw(_pack((batch.tenants, batch.models))),
                    _le(batch.tenant, _U16),
                    _le(batch.model, _U16),
                    batch.request_id,
                    _le(batch.t_start_ms, _I64),
                    _le(batch.t_first_ms, _I64),
                    _le(batch.t_end_ms, _I64),
                    _le(batch.prompt_tokens, _I64),
                    _le(batch.cached_tokens, _I64),
                    _le(batch.completion_tokens, _I64),
                    batch.statuses,
                    status,
                    batch.session_id,
                    batch.trace_id,
                    batch.t_ms,
                )  # fmt: skip
            )
        case UsageBatch():
            return _pack(
                _UsagePacked(
                    batch.meter,
                    batch.unit,
                    batch.tenant,
                    batch.quantity,
                    _le(batch.t0_ms, _I64),
                    _le(batch.t1_ms, _I64),
                    batch.t_ms,
                )
            )


def _encode_json(batch: Batch) -> bytes:
    wire: msgspec.Struct
    match batch:
        case PowerBatch():
            uuid = [batch.gpus[i][0] for i in batch.gpu]
            hardware = [batch.gpus[i][1] for i in batch.gpu]
            wire = _PowerJson(
                batch.node, uuid, hardware, batch.t0_ms.tolist(), batch.t1_ms.tolist(), batch.energy_uj.tolist(),
                [_METHOD_NAMES[m] for m in batch.method], batch.busy_ms.tolist(), batch.owner, batch.t_ms,
            )  # fmt: skip
        case TokenBatch():
            wire = _TokensJson(
                batch.request_id, _names(batch.tenants, batch.tenant), _names(batch.models, batch.model),
                batch.t_start_ms.tolist(), batch.t_end_ms.tolist(), batch.prompt_tokens.tolist(), batch.completion_tokens.tolist(),
                batch.t_first_ms.tolist(), batch.cached_tokens.tolist(), _names(batch.statuses, batch.status),
                batch.session_id, batch.trace_id, batch.t_ms,
            )  # fmt: skip
        case UsageBatch():
            wire = _UsageJson(
                batch.meter,
                batch.unit,
                batch.tenant,
                batch.quantity,
                batch.t0_ms.tolist(),
                batch.t1_ms.tolist(),
                batch.t_ms,
            )
    return msgspec.json.encode(wire)
