"""The route `/litellm`: what LiteLLM's `generic_api` callback posts, read by the rules of `[produce.litellm]`.

A sender that got 503, or no answer, sends its payloads again. They are recognised by the identities of their calls
(`producers.runtime.deduplication`), which are stored in one transaction with the events.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

from contracts.errors import BadInput
from producers.api import ParsedRequest, ReceivedRequest, Route
from producers.gateways.deployments import Deployments
from producers.gateways.estimates import call_batches
from producers.gateways.litellm.payloads import ORIGIN, LiteLLMReader, LiteLLMRules
from producers.gateways.remarks import FirstRemarks
from producers.runtime.deduplication import DeduplicationTrial

PATH = "/litellm"
JSON, LINES = "application/json", "application/x-ndjson"
_PAYLOAD: Mapping[str, Any] = {
    "type": "object", "description": "LiteLLM's standard logging payload; of it only counts, times and names are read.",
    "required": ["id", "model", "startTime", "endTime", "prompt_tokens", "completion_tokens"],
}  # fmt: skip
_SCHEMA: Mapping[str, Any] = {"oneOf": [_PAYLOAD, {"type": "array", "items": _PAYLOAD}]}


def litellm_route(rules: LiteLLMRules, deployments: Deployments, ahead_ms: int) -> Route:
    """Return the route. `ahead_ms` is how far in the future a call may end."""
    parse = partial(_parse, rules, deployments, ahead_ms, FirstRemarks())
    return Route(PATH, "litellm", {JSON: _SCHEMA, LINES: {}}, parse)


def _parse(
    rules: LiteLLMRules, deployments: Deployments, ahead_ms: int, remarks: FirstRemarks, sent: ReceivedRequest,
    trial: DeduplicationTrial,
) -> ParsedRequest:  # fmt: skip
    result = LiteLLMReader(rules, sent.caller.payer, sent.caller.name or ORIGIN, sent.bounds).body(
        sent.body, trial, sent.now_ms + ahead_ms
    )
    sent_calls = call_batches(
        result.calls, result.reports, trial, deployments.within(sent.may_use), ORIGIN, "",
        oldest_ms=sent.bounds.oldest_ms,
    )  # fmt: skip
    refused = [*result.refused, *sent_calls.refused]
    if refused and not (sent_calls.batches or sent_calls.skipped or result.skipped):
        raise BadInput("body", f"{len(refused)} payloads", f"none can be read: {refused[0]}")
    notes = [*remarks.new(result.remarks), *deployments.new_notes()]
    skipped, corrected = sent_calls.skipped + Counter(result.skipped), sent_calls.corrected + Counter(result.corrected)
    return ParsedRequest(sent_calls.batches, refused, skipped, notes, corrected=corrected)
