"""The route `/litellm`: what LiteLLM's `generic_api` callback posts, read by the rules of `[produce.litellm]`.

A sender that got 503, or no answer, sends its payloads again. They are recognised by the names of their calls
(`producers.runtime.deduplication`), which are stored in one transaction with the events.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

from contracts.errors import BadInput
from contracts.settings import Settings
from producers.gateways.calls import batches, group_by_workload, max_ahead_ms
from producers.gateways.deployments import Deployments
from producers.gateways.litellm.callback_folder import ORIGIN
from producers.gateways.litellm.payloads import LiteLLMReader, LiteLLMRules
from producers.gateways.litellm.plugin import LiteLLMConfig
from producers.runtime.config import load
from producers.runtime.deduplication import DOUBLE, Recent, Trial
from producers.runtime.receiver.route import Intake, Parsed, Sent

log = logging.getLogger(__name__)

PATH = "/litellm"
JSON, LINES = "application/json", "application/x-ndjson"
_PAYLOAD: Mapping[str, Any] = {
    "type": "object", "description": "LiteLLM's standard logging payload; of it only counts, times and names are read.",
    "required": ["id", "model", "startTime", "endTime", "prompt_tokens", "completion_tokens"],
}  # fmt: skip
_SCHEMA: Mapping[str, Any] = {"oneOf": [_PAYLOAD, {"type": "array", "items": _PAYLOAD}]}


def intake(settings: Settings, recent: Recent) -> Intake:
    """Return the route. Raises BadSetting if its rules cannot be used."""
    config = load(LiteLLMConfig)
    deployments = Deployments(config.deployments, settings.cluster)
    parse = partial(_parse, config.payload, deployments, recent, max_ahead_ms(settings))
    return Intake(PATH, "litellm", {JSON: _SCHEMA, LINES: {}}, parse)


def _parse(rules: LiteLLMRules, deployments: Deployments, recent: Recent, ahead_ms: int, sent: Sent) -> Parsed:
    trial = Trial(recent)
    result = LiteLLMReader(rules, sent.caller.payer).body(sent.body, trial, sent.now_ms + ahead_ms)
    if result.refused and not result.calls and not result.doubles:
        raise BadInput("body", f"{len(result.refused)} payloads", f"none can be read: {result.refused[0]}")
    workload_batches = list(batches(group_by_workload(result.calls, deployments, ORIGIN), ""))
    for message in deployments.new_unmatched():
        log.warning("%s", message)
    return Parsed(workload_batches, result.refused, {DOUBLE: result.doubles} if result.doubles else {}, trial.added)
