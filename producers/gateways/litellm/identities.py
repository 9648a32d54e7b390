"""Identities of LiteLLM's calls: a call that it logs twice counts once, a retry counts apart. Pure.

LiteLLM calls some callbacks twice, and where one of its interfaces runs on another (a bridge), both log the call. Its
`litellm_call_id` is the same for both, and for the retries of a call. A client may choose it (`x-litellm-call-id`), so
it does not identify a call alone: then clients could keep calls off the bill.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from producers.gateways.calls import InferenceCall, text_or_empty
from producers.gateways.litellm_call_types import BATCHES
from producers.runtime.batching import RequestRow
from producers.runtime.deduplication import MARK, KnownCalls

END_MS = 2_000
"""Two reports of one call end within about this time of each other."""


def call_identities(payload: Mapping[str, Any], row: RequestRow) -> tuple[str, ...]:
    """Return the identities of a call; the first is its own."""
    if payload.get("call_type") in BATCHES:
        return (f"batch {row.request_id.removesuffix('_batch_cost')}",)
    # Ollama's ids are random numbers below 1000, so the id alone does not identify a call.
    name = f"{row.t_start_ms}-{row.t_end_ms}@{row.request_id}"
    call_id = payload.get("litellm_call_id")
    if not isinstance(call_id, str) or not text_or_empty(call_id) or row.status != "ok":
        return (name,)
    family = str(payload.get("call_type") or "").removeprefix("a")
    tokens = f"{call_id} {row.prompt_tokens} {row.completion_tokens}"
    ended = row.t_end_ms // END_MS
    at = f"{call_id} at {payload.get('startTime')}"
    return (name, at, f"{MARK}{tokens} {ended}", f"{MARK}{tokens} {ended} {family}")


def is_double(call: InferenceCall, recent: KnownCalls) -> bool:
    """Return whether an earlier report is of the same call.

    It has the same id and times. Or it has the same `litellm_call_id`, and either the same start, or the same tokens,
    nearly the same end and another type: an interface and the one that it runs on.
    """
    items = [identity for identity in call.identities if not identity.startswith(MARK)]
    if any(map(recent.has, items)):
        return True
    marks = [identity for identity in call.identities if identity.startswith(MARK)]
    if not marks:
        return False
    tokens, _, ended = marks[0].rpartition(" ")
    family = marks[1].rpartition(" ")[2]
    return any(
        recent.has(f"{tokens} {at}") and not recent.has(f"{tokens} {at} {family}")
        for at in range(int(ended) - 1, int(ended) + 2)
    )
