"""Batches from single rows: requests, and metered quantities, turned into columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from contracts import topics
from contracts.checks import FRACTION_DIGITS, WHOLE_DIGITS
from contracts.columns import I64
from contracts.errors import BadInput
from contracts.events import LABELS, TOKEN_COLUMNS, USAGE_COLUMNS, TokenBatch, UsageBatch
from producers.runtime.event_sequence import heartbeat_batch


class Request(Protocol):
    """Row of a `TokenBatch`; times in epoch ms, `t_first_ms` 0 where it is not known."""

    @property
    def tenant(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def request_id(self) -> str: ...
    @property
    def t_start_ms(self) -> int: ...
    @property
    def t_first_ms(self) -> int: ...
    @property
    def t_end_ms(self) -> int: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def cached_tokens(self) -> int: ...
    @property
    def completion_tokens(self) -> int: ...
    @property
    def status(self) -> str: ...
    @property
    def session_id(self) -> str: ...
    @property
    def trace_id(self) -> str: ...


class RequestRow(NamedTuple):
    """One request, with its destination as the gateway reports it: `api_base`, `route` (`gateways.deployments`)."""

    tenant: str
    model: str
    request_id: str
    t_start_ms: int
    t_first_ms: int
    t_end_ms: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    status: str = "ok"
    session_id: str = ""
    trace_id: str = ""
    api_base: str = ""
    route: str = ""
    cache_write_tokens: int = 0
    audio_prompt_tokens: int = 0
    image_prompt_tokens: int = 0
    estimated_prompt_tokens: int = 0
    reasoning_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0
    audio_completion_tokens: int = 0
    image_completion_tokens: int = 0
    estimated_completion_tokens: int = 0
    queue_ms: int = -1
    user: str = ""
    application: str = ""
    feature: str = ""
    provider: str = ""
    region: str = ""
    endpoint: str = ""
    priority: str = ""
    sender: str = ""


def token_batch(rows: Sequence[Request], t_ms: int) -> TokenBatch:
    """Return requests as a batch that is complete up to `t_ms`; without rows, a heartbeat."""
    if not rows:
        beat = heartbeat_batch(topics.TOKENS, t_ms)
        assert isinstance(beat, TokenBatch)
        return beat
    tenants, tenant = _index(r.tenant for r in rows)
    models, model = _index(r.model for r in rows)
    statuses, status = _index(r.status for r in rows)
    return TokenBatch(
        tenants=tenants, tenant=tenant, models=models, model=model, request_id=tuple(r.request_id for r in rows),
        t_start_ms=_numbers(r.t_start_ms for r in rows), t_first_ms=_numbers(r.t_first_ms for r in rows),
        t_end_ms=_numbers(r.t_end_ms for r in rows), **_number_columns(rows), statuses=statuses, status=status,
        t_ms=t_ms, **_label_columns(rows),
    )  # fmt: skip


def _number_columns(rows: Sequence[Request]) -> dict[str, Any]:
    """Return the columns of tokens and of queueing by name. An optional one is left out where no row has a value."""
    columns = {c.name: _numbers(getattr(r, c.name, 0) for r in rows) for c in TOKEN_COLUMNS}
    kept = {c.name: columns[c.name] for c in TOKEN_COLUMNS if not c.optional or columns[c.name].any()}
    queue_ms = _numbers(getattr(r, "queue_ms", -1) for r in rows)
    return kept | {"queue_ms": queue_ms} if (queue_ms >= 0).any() else kept


def _label_columns(rows: Sequence[Request]) -> dict[str, Any]:
    """Return the optional texts of single requests by name; () where no row has one."""
    return {name: _texts(getattr(r, name, "") for r in rows) for name in LABELS}


class UsageRow(NamedTuple):
    """One metered quantity over `[t0_ms, t1_ms)`, as in a row of a `UsageBatch`.

    `quantity` is a decimal text (`decimal_text`). `origin` and `event_id` identify the row in the system it is from.
    """

    meter: str
    unit: str
    quantity: str
    t0_ms: int
    t1_ms: int
    tenant: str = ""
    origin: str = ""
    event_id: str = ""
    session_id: str = ""
    trace_id: str = ""
    step: str = ""
    dimensions: Mapping[str, str] = MappingProxyType({})


def usage_batch(rows: Sequence[UsageRow], t_ms: int) -> UsageBatch:
    """Return metered quantities as a batch. Usage needs no heartbeats: without rows, send no batch."""
    columns: dict[str, Any] = {"t_ms": t_ms}
    for c in USAGE_COLUMNS:
        if c.form == "number":
            columns[c.name] = _numbers(getattr(r, c.name) for r in rows)
        elif c.form in ("text", "map"):
            values = tuple(getattr(r, c.name) for r in rows)
            columns[c.name] = values if any(values) or not c.optional else ()
    return UsageBatch(**columns)


def decimal_text(name: str, value: Decimal | float | int) -> str:
    """Return a quantity as decimal text, rounded half even to FRACTION_DIGITS; a float by its shortest form.

    Raises BadInput that names the quantity where it is not a finite number, or too large.
    """
    exact = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not exact.is_finite() or exact.adjusted() >= WHOLE_DIGITS:
        raise BadInput(name, value, f"give a number of at most {WHOLE_DIGITS} digits before the point")
    text = f"{exact:.{FRACTION_DIGITS}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def text_bytes(text: str) -> int:
    """Return an upper bound of a text's bytes in UTF-8, without encoding it."""
    return len(text) if text.isascii() else 4 * len(text)


def _index(values: Iterable[str]) -> tuple[tuple[str, ...], npt.NDArray[np.uint16]]:
    """Return a text column as (dictionary in order of appearance, index)."""
    seen: dict[str, int] = {}
    index = [seen.setdefault(v, len(seen)) for v in values]
    return tuple(seen), np.array(index, np.uint16)


def _numbers(values: Iterable[int]) -> I64:
    return np.array(list(values), np.int64)


def _texts(values: Iterable[str]) -> tuple[str, ...]:
    """Return an optional text column: () where no row has a value."""
    column = tuple(values)
    return column if any(column) else ()
