"""Bodies of requests: their bound, and how they are unpacked. Pure."""

from __future__ import annotations

import zlib

from producers.runtime.receiver.problems import Rejected

MAX_RATIO = 200
"""Bytes that a packed byte may unpack to: spans and payloads reach 50, empty items 1,000."""
FREE_BYTES = 256 * 2**10
"""Bytes that a body of any size may unpack to."""


def gunzip(packed: bytes, max_bytes: int) -> bytes:
    """Unpack a gzip body, and never more than `max_bytes` of it, nor more than its packed size makes credible.

    Raises Rejected: 413 for a larger body, 400 for one that is not a single gzip stream.
    """
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    credible = FREE_BYTES + MAX_RATIO * len(packed)
    try:
        body = unpacker.decompress(packed, min(max_bytes, credible) + 1)
    except zlib.error:
        raise Rejected(400, "not-gzip", "The body is not what its content-encoding says: gzip.") from None
    if len(body) > max_bytes:
        raise too_large(max_bytes)
    if len(body) > credible:
        raise Rejected(
            413, "too-packed", f"{len(packed):,} bytes unpack to more than {credible:,}; send it in parts, or unpacked."
        )
    if not unpacker.eof or unpacker.unused_data:
        raise Rejected(400, "not-gzip", "The body is not one whole gzip stream.")
    return body


def too_large(max_bytes: int) -> Rejected:
    """Return the answer to a body that is too large."""
    return Rejected(413, "too-large", f"A body has at most {max_bytes:,} bytes, unpacked; send several requests.")
