"""Meters by PromQL: what an instant query answers at the end of each window.

https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries. `$window` in a query stands for the
window's length (`60s`), so `increase(x[$window])` is what x grew by in it. Prometheus extrapolates an increase to the
window's edges, so it is an estimate; where the counter itself can be read, that is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from contracts.errors import BadInput, Unavailable
from producers.meters.window_query import QueryRow, query_row
from producers.meters.windows import MeterWindow
from producers.runtime.batching import decimal_text

Fetch = Callable[[str, float], tuple[int, str]]
"""A query and its time (UTC epoch seconds): the answer's status and text."""


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


_read = msgspec.json.Decoder(_Reply).decode
_read_vector = msgspec.json.Decoder(list[_Series]).decode
_read_scalar = msgspec.json.Decoder(tuple[float, str]).decode


def query_of(text: str, window: MeterWindow) -> str:
    """The query for a window."""
    return text.replace("$window", f"{(window.t1_ms - window.t0_ms) // 1000}s")


def ask(fetch: Fetch, query: str, window: MeterWindow, **of: Any) -> Iterator[QueryRow | BadInput]:
    """A window's answers; `of` is what `questions.answer` is told of each. A series whose value is no number (a
    division by zero) is refused alone.

    Raises Unavailable where Prometheus does not answer, BadInput where it refuses the query.
    """
    status, text = fetch(query_of(query, window), window.t1_ms / 1000)
    for labels, value in _vector(status, text, query):
        labels.pop("__name__", None)
        try:
            quantity = decimal_text(of["meter"], Decimal(value))
        except (InvalidOperation, BadInput):
            shown = ", ".join(f"{k}={v}" for k, v in sorted(labels.items()))
            yield BadInput(of["meter"], value, f"the value of {{{shown}}} is no number that can be metered")
            continue
        yield query_row(labels, quantity, window=window, **of)


def _vector(status: int, text: str, query: str) -> Iterator[tuple[dict[str, str], str]]:
    try:
        reply = _read(text)
        if reply.status != "success":
            if status in (400, 422) and "timed out" not in reply.error:
                raise BadInput("query", query, f"Prometheus says: {reply.error[:200]}")
            raise Unavailable(
                f"Prometheus answers {status}: {reply.error[:200]}", "Is it overloaded? It is asked again."
            )
        match reply.data.result_type:
            case "vector":
                yield from ((s.metric, s.value[1]) for s in _read_vector(reply.data.result))
            case "scalar":
                yield {}, _read_scalar(reply.data.result)[1]
            case other:
                raise BadInput("query", query, f"answers a {other}: ask for an instant vector")
    except msgspec.DecodeError as error:
        raise Unavailable(f"what answers {status} is no Prometheus: {error}", "Is that its address?") from None
