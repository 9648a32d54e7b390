"""Single requests as the columns of a batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from contracts import topics
from contracts.events import TokenBatch
from producers.numbering import heartbeat_batch


class Request(Protocol):
    """What a row of a `TokenBatch` says; times in epoch ms, `t_first_ms` 0 where it is not known."""

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
    """One request, and what a gateway says of where it went (`api_base`, `route`): see `gateways.deployments`."""

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


def token_batch(rows: Sequence[Request], t_ms: int) -> TokenBatch:
    """Requests as a batch that is complete up to `t_ms`; without any, a heartbeat."""
    if not rows:
        beat = heartbeat_batch(topics.TOKENS, t_ms)
        assert isinstance(beat, TokenBatch)
        return beat
    tenants, tenant = _index(r.tenant for r in rows)
    models, model = _index(r.model for r in rows)
    statuses, status = _index(r.status for r in rows)
    numbers = [
        (r.t_start_ms, r.t_first_ms, r.t_end_ms, r.prompt_tokens, r.cached_tokens, r.completion_tokens) for r in rows
    ]
    start, first, end, prompt, cached, completion = np.array(numbers, np.int64).T
    return TokenBatch(
        tenants, tenant, models, model, tuple(r.request_id for r in rows), start, first, end, prompt, cached,
        completion, statuses, status, _texts(r.session_id for r in rows), _texts(r.trace_id for r in rows), t_ms,
    )  # fmt: skip


def _index(values: Iterable[str]) -> tuple[tuple[str, ...], npt.NDArray[np.uint16]]:
    """A text column as (dictionary in order of appearance, index)."""
    seen: dict[str, int] = {}
    index = [seen.setdefault(v, len(seen)) for v in values]
    return tuple(seen), np.array(index, np.uint16)


def _texts(values: Iterable[str]) -> tuple[str, ...]:
    """An optional text column: () where no row has a value."""
    column = tuple(values)
    return column if any(column) else ()
