"""Takes a message of protobuf apart without its schema, so that one malformed piece spoils no other. Pure.

The protobuf library refuses a whole message for one text that is not UTF-8, or for messages nested too deeply.
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
"""Wire types."""


def otlp_items(body: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield each item of an OTLP export with its resource and scope, undecoded: a span, a metric or a log record.

    The three requests have the same fields. Raises ValueError where the message is malformed.
    """
    for resource_items in submessages(body, 1):
        resource = b"".join(submessages(resource_items, 1))
        for scope_items in submessages(resource_items, 2):
            scope = b"".join(submessages(scope_items, 1))
            yield from ((resource, scope, item) for item in submessages(scope_items, 2))


def submessages(message: bytes, field: int) -> list[bytes]:
    """Return the submessages (or texts) of one field of a message. Raises ValueError if the message is malformed."""
    values = []
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        wire_type = tag & 7
        if wire_type == _VARINT:
            _, at = _varint(message, at)
        elif wire_type == _BYTES:
            size, at = _varint(message, at)
            if tag >> 3 == field:
                values.append(message[at : at + size])
            at += size
        elif wire_type in (_FIXED32, _FIXED64):
            at += 4 if wire_type == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire_type}")
    if at > len(message):
        raise ValueError("cut off")
    return values


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
