"""Takes a message of protobuf apart without its schema, so that one malformed piece spoils no other. Pure.

The protobuf library refuses a whole message for one text that is not UTF-8, or for messages nested too deeply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

_VARINT, _FIXED64, _BYTES, _START, _END, _FIXED32 = 0, 1, 2, 3, 4, 5
"""Wire types."""
_MESSAGE = 11
"""Type of a field that holds a message, in a descriptor."""


def otlp_items(body: bytes, refused: list[str] | None = None) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield each item of an OTLP export with its resource and scope, undecoded: a span, a metric or a log record.

    The three requests have the same fields. Raises ValueError where the message is malformed; with `refused`, a
    malformed resource or scope is added to it and the others are read.
    """

    def parts(message: bytes, field: int, name: str) -> tuple[bytes, list[bytes]]:
        try:
            return b"".join(submessages(message, 1)), submessages(message, field)
        except ValueError as error:
            if refused is None:
                raise
            refused.append(f"a {name} of the message: is malformed: {error}")
            return b"", []

    for resource_items in submessages(body, 1):
        resource, scopes = parts(resource_items, 2, "resource")
        for scope_items in scopes:
            scope, items = parts(scope_items, 2, "scope")
            yield from ((resource, scope, item) for item in items)


def count_messages(body: bytes, holder: Any, limit: int) -> int:
    """Return how many messages a parser would make of a body, empty ones too; it may stop beyond `limit`.

    `holder` is the descriptor of the body, or says which fields count: numbers with holders of their own. Of a message
    that is malformed, what comes before counts.
    """
    count = 0
    waiting = [(0, len(body), _inner(holder))]
    while waiting and count <= limit:
        at, end, inner = waiting.pop()
        try:
            while at < end and count <= limit:
                tag, at = (body[at], at + 1) if body[at] < 0x80 else _varint(body, at)
                wire_type = tag & 7
                if wire_type == _BYTES:
                    size, at = (body[at], at + 1) if body[at] < 0x80 else _varint(body, at)
                    message = inner.get(tag >> 3)
                    if message is not None:
                        count += 1
                        if size and message != {}:
                            waiting.append((at, min(at + size, end), _inner(message)))
                    at += size
                elif wire_type == _VARINT:
                    _, at = _varint(body, at)
                elif wire_type in (_FIXED32, _FIXED64):
                    at += 4 if wire_type == _FIXED32 else 8
                elif wire_type not in (_START, _END):  # A parser passes over what lies between the two.
                    break
        except (ValueError, IndexError):
            continue
    return count


def most_messages(body: bytes, descriptor: Any) -> int:
    """Return a number that `count_messages` does not exceed for a body with this descriptor, in a few ms a MiB.

    Every message of a body begins with the tag of its field. So it is at most the number of bytes that begin such a
    tag; texts have them, too.
    """
    return len(body) - len(body.translate(None, _first_bytes(descriptor)))


@cache
def _first_bytes(descriptor: Any) -> bytes:
    """Return the bytes with which tags of messages begin, at any depth of a message, in longer forms of varints too."""
    waiting, seen, first = [descriptor], set[str](), set[int]()
    while waiting:
        for number, inner in _messages_in(waiting.pop()).items():
            low = (number << 3 | _BYTES) & 0x7F
            first |= {low | 0x80} if number > 15 else {low, low | 0x80}
            if inner.full_name not in seen:
                seen.add(inner.full_name)
                waiting.append(inner)
    return bytes(sorted(first))


def _inner(holder: Any) -> Mapping[int, Any]:
    return holder if isinstance(holder, Mapping) else _messages_in(holder)


@cache
def _messages_in(descriptor: Any) -> Mapping[int, Any]:
    """Return the fields of a message that hold messages: their descriptors by number."""
    return {field.number: field.message_type for field in descriptor.fields if field.type == _MESSAGE}


def submessages(message: bytes, field: int) -> list[bytes]:
    """Return the submessages (or texts) of one field of a message. Raises ValueError if the message is malformed."""
    return [message[start:end] for number, _, start, end in _fields(message) if number == field and start >= 0]


def without(message: bytes, drop: Callable[[int, bytes], bool]) -> bytes:
    """Return a message without the submessages and texts for which `drop(field, content)` is true.

    Raises ValueError if the message is malformed.
    """
    fields = [
        message[begin:end] for number, begin, start, end in _fields(message)
        if start < 0 or not drop(number, message[start:end])
    ]  # fmt: skip
    return b"".join(fields)


def _fields(message: bytes) -> list[tuple[int, int, int, int]]:
    """Return for each field its number, its begin, the start of its content (-1 for a number) and its end."""
    fields = []
    at = 0
    while at < len(message):
        begin, start = at, -1
        tag, at = _varint(message, at)
        wire_type = tag & 7
        if wire_type == _VARINT:
            _, at = _varint(message, at)
        elif wire_type == _BYTES:
            size, start = _varint(message, at)
            at = start + size
        elif wire_type in (_FIXED32, _FIXED64):
            at += 4 if wire_type == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire_type}")
        fields.append((tag >> 3, begin, start, at))
    if at > len(message):
        raise ValueError("cut off")
    return fields


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Return the number at an offset, and the offset behind it. Raises ValueError if there is none."""
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("no varint")
