"""The events on the log, as columns.

One event carries many rows, because what Python pays for is messages, not rows (DESIGN.md, Speed). A batch belongs to
one workload in one cluster; its arrays all have the same length `n`, which may be 0: an empty batch is a heartbeat
that says "complete up to `t_ms`".

`check()` on each batch raises BadEvent naming the column, the row and the mend; `contracts.columns` asks the same of
many batches at once. Nobody changes a batch; the classes are not frozen because that doubles what reading one costs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from contracts import checks
from contracts.checks import MAX_ENERGY_UJ, MAX_ROWS, MAX_SPAN_MS, MAX_TEXT, MAX_TIME_MS, MAX_TOKENS
from contracts.errors import BadEvent
from contracts.units import I64

_B = TypeVar("_B", bound=Sized)

__all__ = [
    "MAX_ENERGY_UJ", "MAX_ROWS", "MAX_SPAN_MS", "MAX_TEXT", "MAX_TIME_MS", "MAX_TOKENS",
    "Batch", "Event", "Method", "PowerBatch", "TokenBatch", "UsageBatch",
]  # fmt: skip


class Method(IntEnum):
    """The evidence for an interval's energy, best first. A window shows the worst that it was made of."""

    COUNTER = 0
    """The device's own energy counter."""
    INTEGRATED = 1
    """Watts over time, by the trapezoid rule."""
    ESTIMATED = 2
    """A model's figure: across a counter reset, or where nothing measures."""
    UNMETERED = 3
    """No energy was seen at all: only in the ledger, never on the log."""


@dataclass(slots=True)
class PowerBatch:
    """Intervals of the GPUs of one workload on one node. `wattlog.power.v1`.

    `gpus` is the dictionary [(gpu_uuid, hardware)], `gpu` each row's index into it. Per row: energy over the half-open
    `[t0_ms, t1_ms)`; `busy_ms`, utilisation x duration, is -1 where unknown.
    `owner` is the tenant that pays when the workload is idle ("" if nobody does).
    """

    node: str
    gpus: tuple[tuple[str, str], ...]
    gpu: npt.NDArray[np.uint16]
    t0_ms: I64
    t1_ms: I64
    energy_uj: I64
    method: npt.NDArray[np.uint8]
    busy_ms: I64
    owner: str = ""
    t_ms: int = 0
    gpus_key: Hashable = b""
    """The dictionary's bytes, or itself: equal keys mean equal dictionaries, so that a reader may cache a look-up."""

    def __len__(self) -> int:
        return len(self.t0_ms)

    @property
    def event_ms(self) -> int:
        """Up to where this source says it is complete."""
        return max(self.t_ms, int(self.t1_ms.max())) if len(self) else self.t_ms

    @staticmethod
    def gather(batches: Sequence[PowerBatch]) -> PowerRows:
        """The rows of batches of this class, end to end."""
        join = np.concatenate
        return PowerRows(
            join([b.gpu for b in batches]), join([b.t0_ms for b in batches]), join([b.t1_ms for b in batches]),
            join([b.energy_uj for b in batches]), join([b.method for b in batches]), join([b.busy_ms for b in batches]),
        )  # fmt: skip

    def check(self) -> None:
        self.check_lengths()
        self.check_names()
        if len(self):
            checks.intervals(self.t0_ms, self.t1_ms, self.energy_uj, self.method, self.busy_ms)
            checks.codes("gpu", self.gpu, len(self.gpus), "gpus")

    def check_lengths(self) -> None:
        """Of what differs from batch to batch: the columns' lengths and the clock."""
        n = len(self)
        if (
            not n == len(self.gpu) == len(self.t1_ms) == len(self.energy_uj) == len(self.method) == len(self.busy_ms)
            or n > MAX_ROWS
        ):
            checks.lengths(
                n, gpu=self.gpu, t1_ms=self.t1_ms, energy_uj=self.energy_uj, method=self.method, busy_ms=self.busy_ms
            )
        checks.clock(self.t_ms)

    def check_names(self) -> None:
        """Of what a node says again and again."""
        checks.sizes(gpus=self.gpus)
        checks.text("node", (self.node,), empty=False)
        checks.payers("owner", (self.owner,))
        checks.text("gpus", [g for pair in self.gpus for g in pair], empty=False)


class PowerRows(NamedTuple):
    """Columns of `PowerBatch`, of one length."""

    gpu: npt.NDArray[np.uint16]
    t0_ms: I64
    t1_ms: I64
    energy_uj: I64
    method: npt.NDArray[np.uint8]
    busy_ms: I64


@dataclass(slots=True)
class TokenBatch:
    """Requests served by one workload. `wattlog.tokens.v1`.

    `tenants`, `models`, `statuses` are dictionaries, `tenant`, `model`, `status` each row's index into them.
    Prompt work ran over `[t_start_ms, t_first_ms)`, completion work over `[t_first_ms, t_end_ms)`;
    `t_first_ms` is 0 where the first token's time is unknown. `cached_tokens` is a subset of `prompt_tokens`.
    A status other than "ok" is a failure; what it did before failing still counts as work.
    A row may stand for several requests, or for part of one: what a server's counters grew by. Then `requests` says how
    many ended; None where each row is one.
    """

    tenants: tuple[str, ...]
    tenant: npt.NDArray[np.uint16]
    models: tuple[str, ...]
    model: npt.NDArray[np.uint16]
    request_id: tuple[str, ...]
    t_start_ms: I64
    t_first_ms: I64
    t_end_ms: I64
    prompt_tokens: I64
    cached_tokens: I64
    completion_tokens: I64
    statuses: tuple[str, ...] = ("ok",)
    status: npt.NDArray[np.uint16] = field(default_factory=lambda: np.zeros(0, np.uint16))
    session_id: tuple[str, ...] = ()
    trace_id: tuple[str, ...] = ()
    t_ms: int = 0
    requests: I64 | None = None

    def __len__(self) -> int:
        return len(self.t_start_ms)

    @property
    def event_ms(self) -> int:
        return max(self.t_ms, int(self.t_end_ms.max())) if len(self) else self.t_ms

    @staticmethod
    def gather(batches: Sequence[TokenBatch]) -> TokenRows:
        """The rows of batches of this class, end to end."""
        join = np.concatenate
        return TokenRows(
            join([b.tenant for b in batches]), join([b.model for b in batches]), join([b.status for b in batches]),
            join([b.t_start_ms for b in batches]), join([b.t_first_ms for b in batches]),
            join([b.t_end_ms for b in batches]),
            np.stack([
                join([b.prompt_tokens for b in batches]), join([b.cached_tokens for b in batches]),
                join([b.completion_tokens for b in batches]),
            ]),
            counted(batches, lambda b: b.requests, join),
        )  # fmt: skip

    def check(self) -> None:
        self.check_lengths()
        self.check_texts()
        self.check_names()
        if len(self):
            checks.requests(
                self.t_start_ms, self.t_first_ms, self.t_end_ms, self.prompt_tokens, self.cached_tokens,
                self.completion_tokens, self.requests,
            )  # fmt: skip
            checks.codes("tenant", self.tenant, len(self.tenants), "tenants")
            checks.codes("model", self.model, len(self.models), "models")
            checks.codes("status", self.status, len(self.statuses), "statuses")

    def check_lengths(self) -> None:
        """Of what differs from batch to batch: the columns' lengths and the clock."""
        checks.lengths(
            len(self), tenant=self.tenant, model=self.model, request_id=self.request_id, t_first_ms=self.t_first_ms,
            t_end_ms=self.t_end_ms, prompt_tokens=self.prompt_tokens, cached_tokens=self.cached_tokens,
            completion_tokens=self.completion_tokens, status=self.status,
            session_id=self.session_id or self.request_id, trace_id=self.trace_id or self.request_id,
            requests=self.request_id if self.requests is None else self.requests,
        )  # fmt: skip
        checks.clock(self.t_ms)

    def check_texts(self) -> None:
        """Of single requests."""
        checks.request_texts(self.request_id, self.session_id, self.trace_id)

    def check_names(self) -> None:
        """Of what a workload says again and again."""
        checks.sizes(tenants=self.tenants, models=self.models, statuses=self.statuses)
        checks.payers("tenant", self.tenants, empty=False)
        checks.text("model", self.models, empty=False)
        checks.text("status", self.statuses, empty=False)


class TokenRows(NamedTuple):
    """Columns of `TokenBatch`, of one length n."""

    tenant: npt.NDArray[np.uint16]
    model: npt.NDArray[np.uint16]
    status: npt.NDArray[np.uint16]
    t_start_ms: I64
    t_first_ms: I64
    t_end_ms: I64
    tokens: I64
    """(3, n): prompt, cached, completion."""
    requests: I64 | None
    """None: one each."""


def counted(batches: Sequence[_B], of: Callable[[_B], I64 | None], join: Callable[[list[I64]], I64]) -> I64 | None:
    """`TokenRows.requests` of batches, of which few have any."""
    found = [of(b) for b in batches]
    if all(f is None for f in found):
        return None
    return join([np.ones(len(b), np.int64) if f is None else f for b, f in zip(batches, found, strict=True)])


@dataclass(slots=True)
class UsageBatch:
    """Any other metered quantity of one workload. `wattlog.usage.v1`.

    `quantity` is a decimal text ("12.5"), so that no meter loses digits on the way; it was metered over
    `[t0_ms, t1_ms)`, or at one moment where those are equal. `tenant` is "" where nobody knows it.
    The optional columns are () where no row has a value. `origin` and `event_id` say which row this is to whoever
    metered it (a CloudEvent's source and id): rows of one tenant and meter that agree in both are one, whatever event
    brings them. Without them a row is known by the event's source, number and its place in it. `session_id`, `trace_id`
    and `step` tie a row to an agent's session, `dimensions` are whatever else it is broken down by (pod, node, ...).
    """

    meter: tuple[str, ...]
    unit: tuple[str, ...]
    tenant: tuple[str, ...]
    quantity: tuple[str, ...]
    t0_ms: I64
    t1_ms: I64
    t_ms: int = 0
    origin: tuple[str, ...] = ()
    event_id: tuple[str, ...] = ()
    session_id: tuple[str, ...] = ()
    trace_id: tuple[str, ...] = ()
    step: tuple[str, ...] = ()
    dimensions: tuple[Mapping[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.t0_ms)

    @property
    def event_ms(self) -> int:
        return max(self.t_ms, int(self.t1_ms.max())) if len(self) else self.t_ms

    def check(self) -> None:
        n = len(self)
        checks.lengths(
            n, meter=self.meter, unit=self.unit, tenant=self.tenant, quantity=self.quantity, t1_ms=self.t1_ms,
            origin=self.origin or self.meter, event_id=self.event_id or self.meter,
            session_id=self.session_id or self.meter, trace_id=self.trace_id or self.meter,
            step=self.step or self.meter, dimensions=self.dimensions or self.meter,
        )  # fmt: skip
        checks.text("meter", self.meter, empty=False)
        checks.text("unit", self.unit, empty=False)
        checks.payers("tenant", self.tenant)
        for name in ("origin", "event_id", "session_id", "trace_id", "step"):
            checks.text(name, getattr(self, name))
        checks.dimensions("dimensions", self.dimensions)
        for text in self.quantity:
            if not checks.is_decimal(text):
                raise BadEvent(
                    "quantity", text,
                    f"give a plain decimal number as text, such as '12.5': at most {checks.WHOLE_DIGITS} digits before "
                    f"the point and {checks.FRACTION_DIGITS} after it",
                )  # fmt: skip
        checks.clock(self.t_ms)
        if n:
            checks.times("t0_ms", self.t0_ms)
            checks.times("t1_ms", self.t1_ms)
            checks.rows("t1_ms", self.t1_ms >= self.t0_ms, self.t1_ms, "must not lie before t0_ms")


Batch = PowerBatch | TokenBatch | UsageBatch


@dataclass(slots=True)
class Event:
    """A batch with the identity that makes duplicates recognisable.

    `source` numbers its events from 0 within an `epoch` (one run of a producer): `seq` has no holes, so a hole is loss.
    """

    source: str
    epoch: int
    seq: int
    cluster: str
    workload: str
    batch: Batch
    body: bytes | None = None
    """The checked batch as its packed body, where it was encoded already; None where it was not."""
