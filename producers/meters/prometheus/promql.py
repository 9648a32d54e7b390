"""Meters by PromQL: the result of an instant query at the end of each window.

https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries. `$window` in a query is replaced by the
window's length (`60s`), so `increase(x[$window])` is the growth of x in it. Prometheus extrapolates an increase to the
edges of the window, so it is an estimate. A counter that can be read directly is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import TypeVar

import msgspec

from contracts.errors import BadInput, Unavailable
from producers.common.json_text import decode_or_repair
from producers.meters.window_query import QueryRow, RowTemplate, query_row
from producers.meters.windows import MeterWindow
from producers.runtime.batching import decimal_text
from producers.runtime.refusals import read_each, shorten

Decoded = TypeVar("Decoded")

Fetch = Callable[[str, float], tuple[int, str]]
"""Sends a query and its time (UTC epoch seconds), and returns status and text of the response."""


class _Series(msgspec.Struct):
    metric: dict[str, str]
    value: tuple[float, str]


class _Data(msgspec.Struct, rename={"result_type": "resultType"}):
    result_type: str = ""
    result: msgspec.Raw = msgspec.Raw(b"[]")


class _Reply(msgspec.Struct):
    status: str
    data: _Data = msgspec.field(default_factory=_Data)
    error: str = ""


_decode_reply = msgspec.json.Decoder(_Reply).decode
_decode_vector = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_series = msgspec.json.Decoder(_Series).decode


def query_of(text: str, window: MeterWindow) -> str:
    """Return the query for a window."""
    return text.replace("$window", f"{(window.t1_ms - window.t0_ms) // 1000}s")


def ask(
    fetch: Fetch, query: str, template: RowTemplate, window: MeterWindow, refused: list[str]
) -> Iterator[QueryRow]:  # fmt: skip
    """Yield the rows of a window. A series that is malformed, or whose value is no number, is refused alone.

    Raises Unavailable if Prometheus does not answer, BadInput if it refuses the query.
    """
    status, text = fetch(query_of(query, window), window.t1_ms / 1000)
    reply = _decoded(text, _decode_reply, status)
    if reply.status != "success":
        if status in (400, 422) and "timed out" not in reply.error:
            raise BadInput("query", query, f"Prometheus says: {reply.error[:200]}")
        raise Unavailable(f"Prometheus answers {status}: {reply.error[:200]}", "Is it overloaded? It is asked again.")
    match reply.data.result_type:
        case "vector":
            series = _decoded(bytes(reply.data.result).decode(errors="replace"), _decode_vector, status)
            placed = [(f"{template.meter}, series {n}", bytes(raw)) for n, raw in enumerate(series)]
        case "scalar":
            placed = [(template.meter, b'{"metric": {}, "value": %s}' % bytes(reply.data.result))]
        case other:
            raise BadInput("query", query, f"answers a {other}: ask for an instant vector")
    yield from read_each(placed, lambda raw: _row(raw, window, template), refused, show=True)


def _row(raw: bytes, window: MeterWindow, template: RowTemplate) -> QueryRow:
    series = _decode_series(raw)
    labels, value = series.metric, series.value[1]
    labels.pop("__name__", None)
    try:
        quantity = decimal_text(template.meter, Decimal(value))
    except Exception:
        names = ", ".join(f"{k}={v}" for k, v in sorted(labels.items()))
        hint = f"the value of {{{names}}} is no number that can be metered"
        raise BadInput(template.meter, value, hint) from None
    return query_row(labels, quantity, window, template)


def _decoded(text: str, decode: Callable[[bytes], Decoded], status: int) -> Decoded:
    """Decode a text. Raises Unavailable: a proxy's page, or an answer that is cut off."""
    try:
        return decode_or_repair(text.encode(errors="replace"), decode)
    except Exception as error:
        problem = f"The answer {status} is not Prometheus's: {shorten(error)}"
        raise Unavailable(problem, "Is that its address?", reason="answer") from None
