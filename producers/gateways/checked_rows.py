"""A request's row from values that a reader has found, checked so that the log takes it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contracts.errors import BadInput
from contracts.events import MAX_SPAN_MS, MAX_TEXT, MAX_TIME_MS, MAX_TOKENS
from producers.runtime.batching import RequestRow

NEEDED = ("prompt_tokens", "completion_tokens")


def request_row(
    *, tenant: str, model: object, request_id: str, start_ms: int, first_ms: int | None, end_ms: int,
    columns: Mapping[str, Any],
) -> RequestRow:  # fmt: skip
    """Return a request. `columns` are its counts, texts that `text_or_empty` has passed, and `queue_ms`.

    A first token outside of the request is unknown; a column without a value keeps its default. Raises BadInput that
    names the field, its value and what would be right.
    """
    if not isinstance(model, str) or not model:
        raise BadInput("model", model, "is needed")
    if not tenant or len(tenant) > MAX_TEXT or not tenant.isprintable():
        raise BadInput("tenant", f"({len(tenant)} characters)", f"give 1 to {MAX_TEXT} printable characters")
    if tenant.startswith("__"):
        raise BadInput("tenant", tenant, "names that begin with '__' are Wattlog's own")
    if not 0 <= start_ms <= end_ms <= min(start_ms + MAX_SPAN_MS, MAX_TIME_MS):
        raise BadInput("end", end_ms, "must be 0 to 6 hours after start")
    for name in NEEDED:
        count = columns[name]
        if type(count) is not int or not 0 <= count <= MAX_TOKENS:
            raise BadInput(name, count, "give a whole number of tokens, 0 to 2^31-1")
    counts = {name: columns[name] for name in NEEDED}
    return RequestRow(
        tenant=tenant, model=model, request_id=request_id, t_start_ms=start_ms,
        t_first_ms=first_ms if first_ms is not None and start_ms <= first_ms <= end_ms else 0, t_end_ms=end_ms,
        cached_tokens=columns.get("cached_tokens", 0), **counts,
        **{name: value for name, value in columns.items() if value and name not in counts and name != "cached_tokens"},
    )  # fmt: skip
