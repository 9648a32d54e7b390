"""The events on the log, as columns.

One event carries many rows, because what Python pays for is messages, not rows (DESIGN.md, Speed). A batch belongs to
one workload in one cluster; its arrays all have the same length `n`, which may be 0: an empty batch is a heartbeat
that says "complete up to `t_ms`".

`check()` on each batch raises BadEvent naming the column, the row and the mend.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from contracts.errors import BadEvent
from contracts.units import I64

MAX_ROWS = 65_536
"""Rows in one event."""
MAX_SPAN_MS = 6 * 3_600_000
"""The longest interval or request: longer ones are split by their producer, so that one row cannot touch
millions of windows."""
MAX_TEXT = 253
MAX_ENERGY_UJ = 2**50
"""The most energy in one interval (about 313 kWh): far above any GPU, far below where int64 sums could overflow."""
MAX_TOKENS = 2**31 - 1
MAX_TIME_MS = 253_402_300_799_999
"""The last millisecond of the year 9999, RFC 3339's last: no time, and no difference of two, can overflow."""


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


@dataclass(slots=True, frozen=True)
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
    gpus_key: bytes = b""
    """The dictionary's own bytes: equal bytes mean an equal dictionary, so that a reader may cache its look-up."""

    def __len__(self) -> int:
        return len(self.t0_ms)

    @property
    def event_ms(self) -> int:
        """Up to where this source says it is complete."""
        return max(self.t_ms, int(self.t1_ms.max())) if len(self) else self.t_ms

    def check(self) -> None:
        n = len(self)
        _check_lengths(
            n,
            gpu=self.gpu,
            t1_ms=self.t1_ms,
            energy_uj=self.energy_uj,
            method=self.method,
            busy_ms=self.busy_ms,
        )
        _check_sizes(gpus=self.gpus)
        _check_text("node", (self.node,), empty=False)
        _check_payers("owner", (self.owner,))
        _check_text("gpus", (g for pair in self.gpus for g in pair), empty=False)
        _check_clock(self.t_ms)
        if not n:
            return
        _check_times("t0_ms", self.t0_ms)
        _check_times("t1_ms", self.t1_ms)
        span = self.t1_ms - self.t0_ms
        _check_rows(
            "t1_ms",
            (span > 0) & (span <= MAX_SPAN_MS),
            self.t1_ms,
            f"must be 1 to {MAX_SPAN_MS} ms after t0_ms",
        )
        _check_rows(
            "energy_uj",
            (self.energy_uj >= 0) & (self.energy_uj <= MAX_ENERGY_UJ),
            self.energy_uj,
            "give 0 to 2^50 microjoules",
        )
        _check_rows("method", self.method <= Method.ESTIMATED, self.method, "use counter, integrated or estimated")
        _check_rows("gpu", self.gpu < len(self.gpus), self.gpu, "must index `gpus`")
        _check_rows(
            "busy_ms",
            (self.busy_ms >= -1) & (self.busy_ms <= span),
            self.busy_ms,
            "give 0 to the interval's length, or -1 for unknown",
        )


@dataclass(slots=True, frozen=True)
class TokenBatch:
    """Requests served by one workload. `wattlog.tokens.v1`.

    `tenants`, `models`, `statuses` are dictionaries, `tenant`, `model`, `status` each row's index into them.
    Prompt work ran over `[t_start_ms, t_first_ms)`, completion work over `[t_first_ms, t_end_ms)`;
    `t_first_ms` is 0 where the first token's time is unknown. `cached_tokens` is a subset of `prompt_tokens`.
    A status other than "ok" is a failure; what it did before failing still counts as work.
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
    dict_key: bytes = b""
    """The bytes of `tenants` and `models`: see `PowerBatch.gpus_key`."""

    def __len__(self) -> int:
        return len(self.t_start_ms)

    @property
    def event_ms(self) -> int:
        return max(self.t_ms, int(self.t_end_ms.max())) if len(self) else self.t_ms

    def check(self) -> None:
        n = len(self)
        _check_lengths(
            n, tenant=self.tenant, model=self.model, request_id=self.request_id, t_first_ms=self.t_first_ms,
            t_end_ms=self.t_end_ms, prompt_tokens=self.prompt_tokens, cached_tokens=self.cached_tokens,
            completion_tokens=self.completion_tokens, status=self.status,
            session_id=self.session_id or self.request_id, trace_id=self.trace_id or self.request_id,
        )  # fmt: skip
        _check_sizes(tenants=self.tenants, models=self.models, statuses=self.statuses)
        _check_payers("tenant", self.tenants, empty=False)
        _check_text("model", self.models, empty=False)
        _check_text("status", self.statuses, empty=False)
        _check_text("session_id", self.session_id)
        _check_text("trace_id", self.trace_id)
        _check_clock(self.t_ms)
        if not n:
            return
        _check_text("request_id", self.request_id, empty=False)
        start, first, end = self.t_start_ms, self.t_first_ms, self.t_end_ms
        _check_times("t_start_ms", start)
        _check_times("t_end_ms", end)
        _check_rows(
            "t_end_ms",
            (end >= start) & (end - start <= MAX_SPAN_MS),
            end,
            f"must be 0 to {MAX_SPAN_MS} ms after t_start_ms",
        )
        _check_rows(
            "t_first_ms",
            (first == 0) | ((first >= start) & (first <= end)),
            first,
            "must lie in [t_start_ms, t_end_ms], or be 0 for unknown",
        )
        for name in ("prompt_tokens", "completion_tokens", "cached_tokens"):
            column = getattr(self, name)
            _check_rows(name, (column >= 0) & (column <= MAX_TOKENS), column, "give 0 to 2^31-1 tokens")
        _check_rows(
            "cached_tokens",
            self.cached_tokens <= self.prompt_tokens,
            self.cached_tokens,
            "cached tokens are a subset of prompt_tokens",
        )
        _check_rows("tenant", self.tenant < len(self.tenants), self.tenant, "must index `tenants`")
        _check_rows("model", self.model < len(self.models), self.model, "must index `models`")
        _check_rows("status", self.status < len(self.statuses), self.status, "must index `statuses`")


@dataclass(slots=True, frozen=True)
class UsageBatch:
    """Any other metered quantity of one workload. `wattlog.usage.v1`.

    `quantity` is a decimal text ("12.5"), so that no meter loses digits on the way.
    """

    meter: tuple[str, ...]
    unit: tuple[str, ...]
    tenant: tuple[str, ...]
    quantity: tuple[str, ...]
    t0_ms: I64
    t1_ms: I64
    t_ms: int = 0

    def __len__(self) -> int:
        return len(self.t0_ms)

    @property
    def event_ms(self) -> int:
        return max(self.t_ms, int(self.t1_ms.max())) if len(self) else self.t_ms

    def check(self) -> None:
        n = len(self)
        _check_lengths(
            n, meter=self.meter, unit=self.unit, tenant=self.tenant, quantity=self.quantity, t1_ms=self.t1_ms
        )
        _check_text("meter", self.meter, empty=False)
        _check_text("unit", self.unit, empty=False)
        _check_text("tenant", self.tenant)
        for text in self.quantity:
            if not _is_decimal(text):
                raise BadEvent("quantity", text, "give a plain decimal number as text, such as '12.5'")
        _check_clock(self.t_ms)
        if n:
            _check_times("t0_ms", self.t0_ms)
            _check_times("t1_ms", self.t1_ms)
            _check_rows("t1_ms", self.t1_ms >= self.t0_ms, self.t1_ms, "must not lie before t0_ms")


Batch = PowerBatch | TokenBatch | UsageBatch


@dataclass(slots=True, frozen=True)
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


def _check_lengths(n: int, **columns: npt.NDArray[np.generic] | tuple[str, ...]) -> None:
    if n > MAX_ROWS:
        raise BadEvent("rows", n, f"send at most {MAX_ROWS} rows an event")
    for name, column in columns.items():
        if len(column) != n:
            raise BadEvent(name, len(column), f"every column needs {n} rows, like the others")


def _check_sizes(**dictionaries: tuple[object, ...]) -> None:
    for name, values in dictionaries.items():
        if len(values) > MAX_ROWS:
            raise BadEvent(name, len(values), f"give at most {MAX_ROWS}, the ones that rows point at")


def _check_payers(name: str, values: tuple[str, ...], *, empty: bool = True) -> None:
    _check_text(name, values, empty=empty)
    for value in values:
        if value.startswith("__"):
            raise BadEvent(name, value, "names that begin with '__' are Wattlog's own")


def _check_rows(name: str, ok: npt.NDArray[np.bool_], column: npt.NDArray[np.generic], mend: str) -> None:
    if not ok.all():
        row = int(np.argmin(ok))
        raise BadEvent(f"{name}[{row}]", column[row].item(), mend)


def _check_times(name: str, column: I64) -> None:
    _check_rows(name, (column >= 0) & (column <= MAX_TIME_MS), column, "give UTC epoch milliseconds, to the year 9999")


def _check_clock(t_ms: int) -> None:
    if not 0 <= t_ms <= MAX_TIME_MS:
        raise BadEvent("t_ms", t_ms, "give UTC epoch milliseconds, to the year 9999")


def _check_text(name: str, values: object, *, empty: bool = True) -> None:
    for value in values:  # type: ignore[attr-defined]
        if len(value) > MAX_TEXT or not value.isprintable() or not (value or empty):
            raise BadEvent(name, value, f"give {0 if empty else 1} to {MAX_TEXT} printable characters")


def _is_decimal(text: str) -> bool:
    whole, _, fraction = text.removeprefix("-").partition(".")
    return whole.isdecimal() and (fraction.isdecimal() or fraction == "") and len(text) <= 40 and text.isascii()
