"""Mutations of valid bodies: of their bytes, their JSON or msgpack values, and their fields of protobuf. Seeded."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from producers.common.protobuf_wire import _fields
from tests.security.bodies import varint

VALUES: Sequence[Any] = (
    None, True, False, 0, -1, 1, 2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63), 10**20, 0.1, -0.0, 1e308,
    "", "0", "-1", "1e999", "9" * 400, "NaN", "\0", "\ud800", "\u202e", "x" * 300, "=1", "2026-11-30T00:00:00Z",
    "9999-99-99", [], {}, [[]], [{}], {"": ""}, {"a": {"a": {"a": 1}}}, [None] * 50,
)  # fmt: skip
TOKENS = (
    b"null", b"true", b"-1", b"0", b"1e999", b"-0.0", b"9" * 30, b"9" * 5_000, b"1E-400", b"NaN", b'"\\ud800"',
    b'"\\u0000"', b'""', b"[]", b"{}", b"[[", b"]", b"}", b",", b":", b"\\", b'"', b"\xff", b"\xef\xbb\xbf", b"\0",
    b"\x0a\x00" * 50, b"\x80" * 11, b"\x1f\x8b",
)  # fmt: skip
MAX_BYTES = 200_000
"""A mutant is cut to this size."""


def mutant(rng: random.Random, body: bytes, corpus: Sequence[bytes]) -> bytes:
    """Return a body with one to four mutations."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        body = rng.choice(_MUTATIONS)(rng, body, corpus)[:MAX_BYTES]
    return body


def _flip(rng: random.Random, body: bytes, corpus: Sequence[bytes]) -> bytes:
    if not body:
        return b"\0"
    at = rng.randrange(len(body))
    return body[:at] + bytes([rng.choice((body[at] ^ (1 << rng.randrange(8)), 0, 0xFF, 0x7F, 0x80))]) + body[at + 1 :]


def _cut(rng: random.Random, body: bytes, corpus: Sequence[bytes]) -> bytes:
    start, end = sorted((rng.randint(0, len(body)), rng.randint(0, len(body))))
    return rng.choice((body[:start], body[start:], body[:start] + body[end:], body[start:end]))


def _insert(rng: random.Random, body: bytes, corpus: Sequence[bytes]) -> bytes:
    at = rng.randint(0, len(body))
    return body[:at] + rng.choice(TOKENS) + body[at + rng.choice((0, 1, 4)) :]


def _repeat(rng: random.Random, body: bytes, corpus: Sequence[bytes]) -> bytes:
    start = rng.randint(0, len(body))
    end = min(len(body), start + rng.choice((1, 2, 8, 64)))
    return body[:end] + body[start:end] * rng.choice((1, 2, 50, 2_000)) + body[end:]


def _splice(rng: random.Random, body: bytes, corpus: Sequence[bytes]) -> bytes:
    other = rng.choice(corpus)
    return body[: rng.randint(0, len(body))] + other[rng.randint(0, len(other)) :]


def _in_json(rng: random.Random, body: bytes, corpus: Sequence[bytes]) -> bytes:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return _insert(rng, body, corpus)
    return json.dumps(_changed(rng, value)).encode()


def _in_msgpack(rng: random.Random, body: bytes, corpus: Sequence[bytes]) -> bytes:
    try:
        return msgspec.msgpack.encode(_changed(rng, msgspec.msgpack.decode(body)))
    except (ValueError, TypeError, RecursionError, OverflowError, msgspec.MsgspecError):
        return _flip(rng, body, corpus)


def _changed(rng: random.Random, value: Any) -> Any:
    """Return a decoded value with another one somewhere in it."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        name = rng.choice(list(value))
        if rng.random() < 0.1:
            return {key: inner for key, inner in value.items() if key != name}
        return value | {name: _changed(rng, value[name])}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        return [*value[:at], _changed(rng, value[at]), *value[at + rng.choice((0, 1)) :]]
    if isinstance(value, bytes) and rng.random() < 0.7:
        return _flip(rng, value, ()) * rng.choice((1, 1, 2))
    return rng.choice(VALUES)


def _in_protobuf(rng: random.Random, body: bytes, corpus: Sequence[bytes]) -> bytes:
    """Change one field of a message, and the lengths of those around it."""
    try:
        fields = [(number, body[begin:end], body[start:end] if start >= 0 else None)
                  for number, begin, start, end in _fields(body)]  # fmt: skip
    except ValueError:
        return _flip(rng, body, corpus)
    if not fields:
        return rng.choice(TOKENS)
    at = rng.randrange(len(fields))
    number, raw, content = fields[at]
    parts = [one for _, one, _ in fields]
    if content is None or rng.random() < 0.2:
        parts[at] = rng.choice(
            (b"", raw * rng.choice((2, 500)), _flip(rng, raw, corpus), varint(number << 3) + b"\xff" * 9 + b"\1")
        )
    else:
        inner = _in_protobuf(rng, content, corpus) if rng.random() < 0.8 else rng.choice(TOKENS)
        parts[at] = varint(number << 3 | 2) + varint(len(inner)) + inner
    return b"".join(parts)


_MUTATIONS: Sequence[Callable[[random.Random, bytes, Sequence[bytes]], bytes]] = (
    _flip, _cut, _insert, _repeat, _splice, _in_json, _in_json, _in_msgpack, _in_protobuf, _in_protobuf,
)  # fmt: skip
