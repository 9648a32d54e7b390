"""Events on the log, as columns.

One event carries many rows, because Python's costs grow with messages, not with rows. A batch belongs to one workload
in one cluster. Its arrays all have the same length `n`. A batch with n = 0 is a heartbeat: "complete up to `t_ms`".

`check()` on a batch raises BadEvent, which names the column, the row and the fix. `contracts.joined_batches` checks
many batches at once. Batches are never changed. Their classes are not frozen, because that doubles the cost of reading.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import chain
from operator import attrgetter
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt

from contracts import checks
from contracts.batch_columns import BatchColumn, columns_of
from contracts.checks import MAX_ENERGY_UJ, MAX_ROWS, MAX_SPAN_MS, MAX_TEXT, MAX_TIME_MS, MAX_TOKENS
from contracts.columns import I64

U16 = npt.NDArray[np.uint16]
"""A column of indexes into a dictionary."""

__all__ = [
    "DIMENSIONS",
    "LABELS",
    "MAX_ENERGY_UJ",
    "MAX_ROWS",
    "MAX_SPAN_MS",
    "MAX_TEXT",
    "MAX_TIME_MS",
    "MAX_TOKENS",
    "REQUEST_COLUMNS",
    "TOKENS",
    "TOKEN_COLUMNS",
    "USAGE_COLUMNS",
    "Batch",
    "Event",
    "Method",
    "PowerBatch",
    "TokenBatch",
    "UsageBatch",
    "signed",
]  # fmt: skip


class Method(IntEnum):
    """Evidence for an interval's energy, best first. A window has the weakest evidence of its intervals."""

    COUNTER = 0
    """Read from the device's own energy counter."""
    INTEGRATED = 1
    """Integrated from power readings over time by the trapezoid rule."""
    ESTIMATED = 2
    """Estimated by a model: across a counter reset, or where nothing measures."""
    UNMETERED = 3
    """Without any measured energy. Used in the ledger, never on the log."""
    CORRECTION = 4
    """Energy that a counter shows beyond what was sent for the same time. On the log only: a correction covers no time
    of its own, and makes its windows ESTIMATED."""


@dataclass(slots=True, kw_only=True)
class PowerBatch:
    """Intervals of the GPUs of one workload on one node. `wattlog.power.v1`.

    `gpus` is the dictionary [(gpu_uuid, hardware)], `gpu` each row's index into it. A row is the energy over the
    half-open `[t0_ms, t1_ms)`. Its `busy_ms`, utilisation x duration, is -1 where unknown.
    `owner` is the tenant that pays while the workload is idle, "" without an owner.
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
    """Bytes of the dictionary, or the dictionary. Equal keys mean equal dictionaries, so readers may cache by it."""

    def __len__(self) -> int:
        return len(self.t0_ms)

    @property
    def event_ms(self) -> int:
        """Time up to which the source is complete, in epoch ms."""
        return max(self.t_ms, int(self.t1_ms.max())) if len(self) else self.t_ms

    @staticmethod
    def gather(batches: Sequence[PowerBatch]) -> PowerRows:
        """Return the rows of batches of this class, end to end."""
        join = np.concatenate
        return PowerRows(
            gpu=join([b.gpu for b in batches]),
            t0_ms=join([b.t0_ms for b in batches]),
            t1_ms=join([b.t1_ms for b in batches]),
            energy_uj=join([b.energy_uj for b in batches]),
            method=join([b.method for b in batches]),
            busy_ms=join([b.busy_ms for b in batches]),
        )

    def check(self) -> None:
        """Check everything. Raises BadEvent."""
        self.check_lengths()
        self.check_names()
        if len(self):
            checks.intervals(self.t0_ms, self.t1_ms, self.energy_uj, self.method, self.busy_ms)
            checks.codes("gpu", self.gpu, len(self.gpus), "gpus")

    def check_lengths(self) -> None:
        """Check what differs from batch to batch: the columns' lengths and the clock. Raises BadEvent."""
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
        """Check the names, which a node repeats in every batch. Raises BadEvent."""
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


_PromptPart = Annotated[I64 | None, BatchColumn(form="number", phase="prompt", part_of="prompt_tokens")]
_CompletionPart = Annotated[I64 | None, BatchColumn(form="number", phase="completion", part_of="completion_tokens")]
_Dimension = Annotated[tuple[str, ...], BatchColumn(form="text", dimension=True)]


@dataclass(slots=True, kw_only=True)
class TokenBatch:
    """Requests served by one workload. `wattlog.tokens.v1`.

    `tenants`, `models`, `statuses` are dictionaries, `tenant`, `model`, `status` each row's index into them.
    Prompt work ran over `[t_start_ms, t_first_ms)`, completion work over `[t_first_ms, t_end_ms)`;
    `t_first_ms` is 0 where the first token's time is unknown.
    A status other than "ok" is a failure; the tokens processed before it still count as work.
    A row may stand for several requests or for part of one, where it is the growth of a server's counters. Then
    `requests` has the number of requests that ended; None where each row is one request. -1 takes a request back that
    was sent before, in a row with the same contents: its counts are subtracted.

    Prompt tokens are computed, read from a cache (`cached_tokens`) or computed and written to one
    (`cache_write_tokens`). The other columns are parts of the prompt or of the completion by another measure, and may
    overlap: audio, images, reasoning, predictions that the model accepted or rejected. `estimated_*` are tokens that
    were estimated, because no server reported them. Names follow OpenAI's `usage` and OpenTelemetry's GenAI attributes.

    `queue_ms` is the part of the time to the first token that a request waited for the model, -1 where it is unknown.
    `endpoint` is the kind of call: chat, completion, embedding, image, audio, rerank. `sender` is who reported the
    request: a verified credential's name, or the producer's. `user` is a keyed hash by default.

    A new column of tokens is one more line here, with None as its default: producers that do not know it leave it out.
    """

    tenants: Annotated[tuple[str, ...], BatchColumn(form="dictionary")]
    tenant: Annotated[U16, BatchColumn(form="code", dictionary="tenants")]
    models: Annotated[tuple[str, ...], BatchColumn(form="dictionary")]
    model: Annotated[U16, BatchColumn(form="code", dictionary="models")]
    request_id: Annotated[tuple[str, ...], BatchColumn(form="text", empty=False)]
    t_start_ms: Annotated[I64, BatchColumn(form="number")]
    t_first_ms: Annotated[I64, BatchColumn(form="number", optional_in_json=True)]
    t_end_ms: Annotated[I64, BatchColumn(form="number")]
    prompt_tokens: Annotated[I64, BatchColumn(form="number", phase="prompt")]
    cached_tokens: Annotated[
        I64, BatchColumn(form="number", phase="prompt", part_of="prompt_tokens", optional_in_json=True)
    ]
    completion_tokens: Annotated[I64, BatchColumn(form="number", phase="completion")]
    statuses: Annotated[tuple[str, ...], BatchColumn(form="dictionary")] = ("ok",)
    status: Annotated[U16, BatchColumn(form="code", dictionary="statuses")] = field(
        default_factory=lambda: np.zeros(0, np.uint16)
    )
    session_id: Annotated[tuple[str, ...], BatchColumn(form="text")] = ()
    trace_id: Annotated[tuple[str, ...], BatchColumn(form="text")] = ()
    t_ms: Annotated[int, BatchColumn(form="scalar")] = 0
    requests: Annotated[I64 | None, BatchColumn(form="number", absent=1)] = None
    cache_write_tokens: _PromptPart = None
    audio_prompt_tokens: _PromptPart = None
    image_prompt_tokens: _PromptPart = None
    estimated_prompt_tokens: _PromptPart = None
    reasoning_tokens: _CompletionPart = None
    accepted_prediction_tokens: _CompletionPart = None
    rejected_prediction_tokens: _CompletionPart = None
    audio_completion_tokens: _CompletionPart = None
    image_completion_tokens: _CompletionPart = None
    estimated_completion_tokens: _CompletionPart = None
    queue_ms: Annotated[I64 | None, BatchColumn(form="number", absent=-1)] = None
    user: _Dimension = ()
    application: _Dimension = ()
    feature: _Dimension = ()
    provider: _Dimension = ()
    region: _Dimension = ()
    endpoint: _Dimension = ()
    priority: _Dimension = ()
    sender: _Dimension = ()

    def __len__(self) -> int:
        return len(self.t_start_ms)

    @property
    def event_ms(self) -> int:
        """Time up to which the source is complete, in epoch ms."""
        return max(self.t_ms, int(self.t_end_ms.max())) if len(self) else self.t_ms

    @staticmethod
    def gather(batches: Sequence[TokenBatch]) -> TokenRows:
        """Return the rows of batches of this class, end to end."""
        join = np.concatenate
        return TokenRows(
            tenant=join([b.tenant for b in batches]),
            model=join([b.model for b in batches]),
            status=join([b.status for b in batches]),
            t_start_ms=join([b.t_start_ms for b in batches]),
            t_first_ms=join([b.t_first_ms for b in batches]),
            t_end_ms=join([b.t_end_ms for b in batches]),
            tokens=np.stack([join([b.tokens(c.name) for b in batches]) for c in TOKEN_COLUMNS]),
            requests=join_optional(batches, "requests"),
            queue_ms=join_optional(batches, "queue_ms"),
            texts=join_texts(batches),
        )

    def tokens(self, name: str) -> I64:
        """Return a column of tokens, zeros where the batch does not have it."""
        column: I64 | None = getattr(self, name)
        return np.zeros(len(self), np.int64) if column is None else column

    def check(self) -> None:
        """Check everything. Raises BadEvent."""
        self.check_lengths()
        self.check_texts()
        self.check_names()
        if len(self):
            checks.requests(self.t_start_ms, self.t_first_ms, self.t_end_ms, self.requests, self.queue_ms)
            checks.tokens(TOKEN_COLUMNS, [self.tokens(c.name) for c in TOKEN_COLUMNS])
            for c in REQUEST_COLUMNS:
                if c.form == "code":
                    checks.codes(c.name, getattr(self, c.name), len(getattr(self, c.dictionary)), c.dictionary)

    def check_lengths(self) -> None:
        """Check what differs from batch to batch: the columns' lengths and the clock."""
        checks.lengths(len(self), **sized_columns(self, REQUEST_COLUMNS))
        checks.clock(self.t_ms)

    def check_texts(self) -> None:
        """Check the texts of single requests."""
        checks.texts(REQUEST_COLUMNS, {c.name: getattr(self, c.name) for c in REQUEST_COLUMNS if c.form == "text"})

    def check_names(self) -> None:
        """Check the dictionaries, which a workload repeats in every batch."""
        checks.sizes(tenants=self.tenants, models=self.models, statuses=self.statuses)
        checks.payers("tenant", self.tenants, empty=False)
        checks.text("model", self.models, empty=False)
        checks.text("status", self.statuses, empty=False)


REQUEST_COLUMNS = columns_of(TokenBatch)
TOKEN_COLUMNS = tuple(c for c in REQUEST_COLUMNS if c.phase)
LABELS = tuple(c.name for c in REQUEST_COLUMNS if c.form == "text" and c.optional)
"""Names of the optional texts of single requests, which are stored with them."""
DIMENSIONS = tuple(c.name for c in REQUEST_COLUMNS if c.dimension)
"""Names of the labels by which the ledger can break a tenant's tokens down."""
_ABSENT = {c.name: c.absent for c in REQUEST_COLUMNS}
_TEXTS = tuple(c.name for c in REQUEST_COLUMNS if c.form == "text")
TOKENS = tuple(c.name for c in TOKEN_COLUMNS)
"""Names of the additive counts of tokens, in the order of `TokenRows.tokens`."""


class TokenRows(NamedTuple):
    """Columns of `TokenBatch`, of one length n."""

    tenant: U16
    model: U16
    status: U16
    t_start_ms: I64
    t_first_ms: I64
    t_end_ms: I64
    tokens: I64
    """(len(TOKENS), n): the counts of tokens."""
    requests: I64 | None
    """None where each row is one request."""
    queue_ms: I64 | None
    """None where no row's is known."""
    texts: Mapping[str, list[str]]
    """Text columns by name. A batch that leaves a column out adds no text to it."""


def join_texts(batches: Sequence[object]) -> dict[str, list[str]]:
    """Return `TokenRows.texts` of batches, or of the bodies that have their columns."""
    return {name: list(chain.from_iterable(map(attrgetter(name), batches))) for name in _TEXTS}


def join_optional(batches: Sequence[TokenBatch], name: str) -> I64 | None:
    """Return an optional number column of batches, of which few have it; None where none has."""
    columns = [getattr(b, name) for b in batches]
    if all(c is None for c in columns):
        return None
    return np.concatenate(
        [np.full(len(b), _ABSENT[name], np.int64) if c is None else c for b, c in zip(batches, columns, strict=True)]
    )


def signed(counts: I64, requests: I64 | None) -> I64:
    """Return counts of rows, (..., n), negative where `requests` says that a row takes a request back."""
    if requests is None or (requests >= 0).all():
        return counts
    negative: I64 = np.where(requests < 0, -counts, counts)
    return negative


def sized_columns(batch: TokenBatch | UsageBatch, columns: Sequence[BatchColumn]) -> dict[str, Sized]:
    """Return the columns that must have as many rows as the batch: all but those that it leaves out."""
    sized: dict[str, Sized] = {}
    for c in columns:
        value = getattr(batch, c.name)
        if c.form in ("text", "map"):
            left_out = c.optional and not value
        else:
            left_out = c.form not in ("code", "number") or value is None
        if not left_out:
            sized[c.name] = value
    return sized


@dataclass(slots=True, kw_only=True)
class UsageBatch:
    """Other metered quantities of one workload. `wattlog.usage.v1`.

    `quantity` is a decimal text ("12.5"), so that no meter loses digits on the way. It was metered over
    `[t0_ms, t1_ms)`, or at one moment where those are equal. `tenant` is "" where it is unknown.
    The optional columns are () where no row has a value. `origin` and `event_id` identify a row at its meter, as a
    CloudEvent's source and id do. Rows of one tenant and meter that agree in both are one row, in whatever event they
    arrive. Without them a row is identified by its event's source and number and its position in the event.
    `session_id`, `trace_id` and `step` tie a row to an agent's session. `dimensions` hold any other breakdown, such as
    pod and node.
    """

    meter: Annotated[tuple[str, ...], BatchColumn(form="text", empty=False)]
    unit: Annotated[tuple[str, ...], BatchColumn(form="text", empty=False)]
    tenant: Annotated[tuple[str, ...], BatchColumn(form="text", payer=True)]
    quantity: Annotated[tuple[str, ...], BatchColumn(form="text", decimal=True)]
    t0_ms: Annotated[I64, BatchColumn(form="number")]
    t1_ms: Annotated[I64, BatchColumn(form="number")]
    t_ms: Annotated[int, BatchColumn(form="scalar")] = 0
    origin: Annotated[tuple[str, ...], BatchColumn(form="text")] = ()
    event_id: Annotated[tuple[str, ...], BatchColumn(form="text")] = ()
    session_id: Annotated[tuple[str, ...], BatchColumn(form="text")] = ()
    trace_id: Annotated[tuple[str, ...], BatchColumn(form="text")] = ()
    step: Annotated[tuple[str, ...], BatchColumn(form="text")] = ()
    dimensions: Annotated[tuple[Mapping[str, str], ...], BatchColumn(form="map")] = ()

    def __len__(self) -> int:
        return len(self.t0_ms)

    @property
    def event_ms(self) -> int:
        """Time up to which the source is complete, in epoch ms."""
        return max(self.t_ms, int(self.t1_ms.max())) if len(self) else self.t_ms

    def check(self) -> None:
        """Check everything. Raises BadEvent."""
        checks.lengths(len(self), **sized_columns(self, USAGE_COLUMNS))
        checks.texts(USAGE_COLUMNS, {c.name: getattr(self, c.name) for c in USAGE_COLUMNS if c.form == "text"})
        checks.dimensions("dimensions", self.dimensions)
        checks.clock(self.t_ms)
        if len(self):
            checks.times("t0_ms", self.t0_ms)
            checks.times("t1_ms", self.t1_ms)
            checks.rows("t1_ms", self.t1_ms >= self.t0_ms, self.t1_ms, "must not lie before t0_ms")


USAGE_COLUMNS = columns_of(UsageBatch)

Batch = PowerBatch | TokenBatch | UsageBatch


@dataclass(slots=True)
class Event:
    """A batch and the identity by which duplicates are recognised.

    `source` numbers its events from 0 within an `epoch`, which is one run of a producer. `seq` has no gaps, so a gap
    means loss.
    """

    source: str
    epoch: int
    seq: int
    cluster: str
    workload: str
    batch: Batch
