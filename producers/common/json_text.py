"""Work on JSON text that the decoder refuses as a whole, so that one malformed piece does not spoil its neighbours.

No function here recurses: any depth of nesting is fine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TypeVar

from contracts.errors import BadInput

Decoded = TypeVar("Decoded")
BOM = b"\xef\xbb\xbf"
"""Mark that some clients on Windows put before a text in UTF-8."""

_SURROGATE = re.compile(rb"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(\\u[dD][89a-fA-F]..)", re.DOTALL)
"""A pair of surrogates, or a lone one (group 1), as escapes in a JSON string."""
_CLOSING = b'"]}'
_TOKENS_PER_ELEMENT = 4
"""Strings and closing brackets that come with an element at most."""
_TOKEN = re.compile(rb'"[^"]*+"|[\[\]{},]')
"""A string in which no quote is escaped, or a symbol."""


def _without_backslashes(text: bytes) -> bytes:
    """Return JSON text of the same length without escaped backslashes."""
    return text.replace(rb"\\", b"__") if b"\\" in text else text


def _tokens(text: bytes) -> Iterator[re.Match[bytes]]:
    """Yield the strings and symbols of a JSON text.

    Quotes that are escaped are blotted out first: an expression that knows escapes takes memory for each of them.
    """
    return _TOKEN.finditer(_without_backslashes(text).replace(rb"\"", b"__"))


def count_elements(text: bytes, limit: int) -> int:
    """Return about how many values a JSON text or lines of it hold, empty ones too; it may stop beyond `limit`.

    Commas, opening brackets and line ends count; what lies in a string does not.
    """
    lines = text.count(b"\n")
    if lines > limit or lines + sum(map(text.count, (b",", b"[", b"{"))) <= limit:
        return lines
    count = lines
    for n, token in enumerate(_tokens(text)):
        symbol = text[token.start()]
        count += symbol not in _CLOSING
        if count > limit or n > _TOKENS_PER_ELEMENT * limit:
            return limit + 1
    return count


def json_elements(text: bytes) -> Iterator[bytes]:
    """Yield the elements of a JSON array, undecoded and stripped. They may hold anything with balanced brackets.

    Raises BadInput if the text is not one array.
    """
    text = text.strip()
    if text[:1] != b"[":
        raise BadInput("body", text[:40], "is no JSON array")
    depth, start = 0, 1
    for token in _tokens(text):
        symbol = token[0]
        if symbol in (b"[", b"{"):
            depth += 1
        elif symbol in (b"]", b"}"):
            depth -= 1
            if depth == 0:
                if symbol != b"]" or token.end() != len(text):
                    break
                element = text[start : token.start()].strip()
                if element or start > 1:
                    yield element
                return
        elif symbol == b"," and depth == 1:
            yield text[start : token.start()].strip()
            start = token.end()
    raise BadInput("body", f"{len(text)} bytes", "is no JSON: the array is cut off, or its brackets do not match")


def json_items(body: bytes, *, lines: bool) -> Iterator[bytes]:
    """Yield the items of a body, undecoded: the lines of NDJSON, the elements of an array, or the only object.

    Raises BadInput for an array that is cut off.
    """
    text = body.removeprefix(BOM).strip()
    if lines:
        yield from (line for line in map(bytes.strip, text.split(b"\n")) if line)
    elif text[:1] == b"[":
        yield from json_elements(text)
    elif text:
        yield text


def decode_or_repair(text: bytes, decode: Callable[[bytes], Decoded]) -> Decoded:
    """Return what `decode` returns of a JSON text or, where it refuses that, of the repaired text.

    Raises what `decode` raises of the repaired text.
    """
    try:
        return decode(text)
    except Exception:
        return decode(repair(text))


def repair(text: bytes, max_depth: int = 64) -> bytes:
    """Return JSON text that a decoder can skip over, whatever its strings and its nesting.

    Each array or object below `max_depth` levels becomes null, and each lone surrogate becomes U+0000, which no name on
    the log may hold.
    """
    parts = []
    depth = kept_to = 0
    for token in _tokens(text):
        symbol = token[0]
        if symbol in (b"[", b"{"):
            depth += 1
            if depth == max_depth + 1:
                parts += [text[kept_to : token.start()], b"null"]
        elif symbol in (b"]", b"}"):
            if depth == max_depth + 1:
                kept_to = token.end()
            depth -= 1
    if depth <= max_depth:
        parts.append(text[kept_to:])
    return _without_lone_surrogates(b"".join(parts))


def _without_lone_surrogates(text: bytes) -> bytes:
    parts, kept_to = [], 0
    for match in _SURROGATE.finditer(_without_backslashes(text)):
        if match[1]:
            parts += [text[kept_to : match.start()], rb"\u0000"]
            kept_to = match.end()
    return b"".join((*parts, text[kept_to:]))
