"""Meters by PromQL: the result of an instant query at the end of each window.

https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries. `$window` in a query is replaced by the
window's length (`60s`), so `increase(x[$window])` is the growth of x in it. Prometheus extrapolates an increase to the
edges of the window, so it is an estimate. A counter that can be read directly is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal, DecimalException

import msgspec

from contracts.errors import BadInput, Unavailable
from producers.common.json_text import repair
from producers.meters.window_query import QueryRow, RowTemplate, query_row
from producers.meters.windows import MeterWindow
from producers.runtime.batching import decimal_text

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
_decode_scalar = msgspec.json.Decoder(tuple[float, str]).decode
_ERRORS = (msgspec.DecodeError, UnicodeError, RecursionError)


def query_of(text: str, window: MeterWindow) -> str:
    """Return the query for a window."""
    return text.replace("$window", f"{(window.t1_ms - window.t0_ms) // 1000}s")


def ask(fetch: Fetch, query: str, template: RowTemplate, window: MeterWindow) -> Iterator[QueryRow | BadInput]:
    """Yield the rows of a window. A series that is malformed, or whose value is no number, is refused alone.

    Raises Unavailable if Prometheus does not answer, BadInput if it refuses the query.
    """
    status, text = fetch(query_of(query, window), window.t1_ms / 1000)
    for series in _vector(status, text, query):
        if isinstance(series, BadInput):
            yield series
            continue
        labels, value = series
        labels.pop("__name__", None)
        try:
            quantity = decimal_text(template.meter, Decimal(value))
        except (DecimalException, BadInput):
            names = ", ".join(f"{k}={v}" for k, v in sorted(labels.items()))
            yield BadInput(template.meter, value, f"the value of {{{names}}} is no number that can be metered")
            continue
        yield query_row(labels, quantity, window, template)


def _vector(status: int, text: str, query: str) -> Iterator[tuple[dict[str, str], str] | BadInput]:
    """Yield labels and value of each series, or the error of one that is malformed."""
    try:
        reply = _decode(text)
        if reply.status != "success":
            if status in (400, 422) and "timed out" not in reply.error:
                raise BadInput("query", query, f"Prometheus says: {reply.error[:200]}")
            raise Unavailable(
                f"Prometheus answers {status}: {reply.error[:200]}", "Is it overloaded? It is asked again."
            )
        match reply.data.result_type:
            case "vector":
                yield from (_series(n, raw) for n, raw in enumerate(_decode_vector(reply.data.result)))
            case "scalar":
                yield {}, _decode_scalar(reply.data.result)[1]
            case other:
                raise BadInput("query", query, f"answers a {other}: ask for an instant vector")
    except _ERRORS as error:
        raise Unavailable(f"The answer {status} is not Prometheus's: {error}", "Is that its address?") from None


def _decode(text: str) -> _Reply:
    try:
        return _decode_reply(text)
    except _ERRORS:
        return _decode_reply(repair(text.encode(errors="replace")))


def _series(number: int, raw: msgspec.Raw) -> tuple[dict[str, str], str] | BadInput:
    try:
        series = _decode_series(raw)
    except _ERRORS as error:
        return BadInput(f"series {number}", f"{len(bytes(raw))} bytes", f"is malformed: {error}")
    return series.metric, series.value[1]
