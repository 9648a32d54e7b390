"""Door of the listener: what a verified sender may send, and where its requests may land.

Tokens of a request are shares of the energy of a whole workload, everybody's. So only a sender with the scope
`send:requests` may send them, and where the configuration lists workloads for it, to those. What is old is refused:
it would change a bill that was final long ago.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import NamedTuple
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, field_validator

from contracts.callers import Caller, Scope
from contracts.checks import MAX_TEXT
from contracts.errors import AccessDenied, BadInput
from contracts.events import Batch, TokenBatch, UsageBatch
from contracts.workload_names import without_gpus
from producers.api import ParsedRequest, ReceivedRequest
from producers.runtime.call_bounds import CallBounds
from producers.runtime.refusals import FORBIDDEN

_PART_CHARS = (MAX_TEXT - 1) // 2
_PLAIN = "|:/@,"
"""Characters of a name that its origin keeps, beside letters, digits and `_.-~`."""


class SenderRule(BaseModel):
    """The workloads that a sender's requests may land on."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(min_length=1, max_length=MAX_TEXT, description="The credential's name.")
    workloads: tuple[str, ...] = Field(description="`CLUSTER/WORKLOAD`, which may hold `*` and `?`.")

    @field_validator("workloads")
    @classmethod
    def _check_workloads(cls, workloads: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in workloads:
            if "/" not in pattern:
                raise ValueError(f"{pattern!r}: give CLUSTER/WORKLOAD, such as 'east/chat' or 'east/*'")
        return workloads


class SenderRules(NamedTuple):
    """Rules for senders. `max_age_ms` is how long ago an event may have ended, and `max_tokens_per_s` bounds each
    request; None: no bound."""

    senders: Sequence[SenderRule] = ()
    max_age_ms: int | None = None
    max_tokens_per_s: int | None = None

    def let_in(self, sent: ReceivedRequest) -> ReceivedRequest:
        """Return a request with its sender's bounds, by which its route reads it."""
        listed = [rule.workloads for rule in self.senders if rule.name == sent.caller.name]
        return sent._replace(
            bounds=CallBounds(0 if self.max_age_ms is None else sent.now_ms - self.max_age_ms, self.max_tokens_per_s),
            workloads=[pattern for workloads in listed for pattern in workloads] if listed else None,
        )

    def checked(self, sent: ReceivedRequest, parsed: ParsedRequest) -> ParsedRequest:
        """Return what a body says, with the sender's name in the origins of its usage.

        Raises AccessDenied (403) for rows that the sender may not send, and for a body that counts nothing because it
        may send none of its items; BadInput for old rows, whatever the route.
        """
        if not (parsed.batches or parsed.skipped):
            for text in parsed.refused:
                if getattr(text, "reason", "") == FORBIDDEN:
                    raise AccessDenied(403, str(text))
        for cluster, workload, batch, _ in parsed.batches:
            if not isinstance(batch, UsageBatch) and not without_gpus(workload):
                sent.caller.require(Scope.SEND_REQUESTS)
                if not sent.may_use(cluster, workload):
                    raise AccessDenied(403, f"The configuration lists no {cluster}/{workload} for this credential.")
            end_ms = _oldest_end_ms(batch)
            if end_ms < sent.bounds.oldest_ms:
                raise BadInput("end", end_ms, "is older than the setting max_age_ms allows")
        if not sent.caller.name:
            return parsed
        return parsed._replace(
            batches=[item._replace(batch=_signed(item.batch, sent.caller)) for item in parsed.batches]
        )


def _signed(batch: Batch, caller: Caller) -> Batch:
    """Return usage whose origins begin with the sender's name: its rows are copies of none that another sends."""
    if not isinstance(batch, UsageBatch):
        return batch
    origins = batch.origin or ("",) * len(batch)
    return replace(batch, origin=tuple(origin_of(caller.name, origin) for origin in origins))


def origin_of(sender: str, origin: str) -> str:
    """Return the origin of a row of usage: its sender's name, percent-encoded, a space, and what the sender calls it.

    A long part is cut and ends with a digest, so that different ones stay different.
    """
    return f"{_cut(quote(sender, safe=_PLAIN))} {_cut(origin)}"


def _cut(text: str) -> str:
    if len(text) <= _PART_CHARS:
        return text
    return f"{text[: _PART_CHARS - 33]}~{blake2b(text.encode(), digest_size=16).hexdigest()}"


def _oldest_end_ms(batch: Batch) -> int:
    ends_ms = batch.t_end_ms if isinstance(batch, TokenBatch) else batch.t1_ms
    return int(min(ends_ms))
