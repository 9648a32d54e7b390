"""Reads calls from LiteLLM's standard logging payloads, which its callbacks receive and its `generic_api` posts.

Only the fields named here are read. The payload also has `messages`, `response` and `model_parameters`: of those only
the counts under `response.usage`, and whether a stream was asked for its usage. `end_user` is not read, because clients
set it as they like.

A field beside the tokens that cannot be right (a cost, a time, a name) is left out and reported; the tokens count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from contracts.errors import BadInput
from producers.common.body_cost import bounded, check_items, check_json
from producers.common.json_text import decode_or_repair, json_elements
from producers.gateways.calls import NO_TENANT, InferenceCall, check_end_ms
from producers.gateways.estimates import is_report_of_estimate
from producers.gateways.litellm.identities import call_identities, is_double
from producers.gateways.litellm.payload_fields import LiteLLMRules, PayloadFields
from producers.gateways.litellm_call_types import BATCHES, INFERENCE
from producers.runtime.call_bounds import NO_BOUNDS, CallBounds
from producers.runtime.deduplication import REPEATED, KnownCalls
from producers.runtime.estimated_calls import is_estimate
from producers.runtime.refusals import describe, read_each, shorten

__all__ = ["LiteLLMCalls", "LiteLLMReader", "LiteLLMRules"]

ORIGIN = "litellm"
CALL_TYPE, BATCH = "call_type", "batch"
"""Reasons why a payload does not count: no inference, or a poll of a batch that is not done."""


class LiteLLMCalls(NamedTuple):
    """New calls, errors of payloads that could not be read, and by reason those that do not count or were corrected.

    `reports` are calls that are known by an estimate, which they can replace. `remarks` are sentences for the log, each
    of which is worth being logged once.
    """

    calls: list[InferenceCall]
    reports: list[InferenceCall]
    refused: list[str]
    skipped: Mapping[str, int]
    corrected: Mapping[str, int]
    remarks: list[str]


class LiteLLMReader:
    """Reads calls from payloads.

    `payer` maps the tenant that a payload names ("" for none) to the one that pays. It may raise. `sender` is who
    reports the payloads: a tenant whose token was verified, or this producer. A call beyond `bounds`
    is refused.
    """

    def __init__(
        self,
        rules: LiteLLMRules,
        payer: Callable[[str], str] = str,
        sender: str = ORIGIN,
        bounds: CallBounds = NO_BOUNDS,
    ) -> None:
        self._fields, self._bounds = PayloadFields(rules, payer, sender), bounds
        self._rules, self._sender = rules, sender

    def body(self, body: bytes, recent: KnownCalls, latest_ms: int) -> LiteLLMCalls:
        """Read a post of `generic_api` with any `log_format`: an array, lines, or a single object.

        Raises BadInput if the body is none of them.
        """
        payloads = ((f"payload {n}", payload) for n, payload in enumerate(_split_body(body)))
        return self.payloads(payloads, recent, latest_ms)

    def payloads(self, payloads: Iterable[tuple[str, object]], recent: KnownCalls, latest_ms: int) -> LiteLLMCalls:
        """Read payloads, given with their places as JSON or decoded, and add the new calls to `recent`.

        A payload that cannot be read, or that ended after `latest_ms` (epoch ms), is refused alone.
        """
        calls, reports, refused, skipped = list[InferenceCall](), list[InferenceCall](), list[str](), Counter[str]()
        corrected, remarks = Counter[str](), dict[str, None]()

        def read(payload: object) -> InferenceCall | None:
            decoded = _object(_decode_json(payload) if isinstance(payload, bytes) else payload)
            reason, remark = _skip_reason(decoded)
            if remark:
                remarks[remark] = None
            if reason:
                skipped[reason] += 1
                return None
            call, left_out = self._call(decoded)
            check_end_ms(call.row.t_end_ms, latest_ms, self._bounds.oldest_ms)
            self._bounds.check(call.row)
            corrected.update(left_out.values())
            remarks.update(dict.fromkeys(self._remark(name) for name in left_out if name))
            return call

        for call in read_each(payloads, read, refused):
            if call is None:
                continue
            if is_report_of_estimate(call.row, call.identities, recent):
                reports.append(call)
            elif is_double(call, recent):
                skipped[REPEATED] += 1
            else:
                calls.append(call)
            recent.add(call.identities, estimated=is_estimate(call.row))
        return LiteLLMCalls(calls, reports, refused, skipped, corrected, list(remarks))

    def _remark(self, left_out: str) -> str:
        if left_out == NO_TENANT:
            return f"payloads from {self._sender} name no tenant, and are charged to {self._rules.otherwise}"
        return f"payloads with a {left_out} that cannot be right count without it"

    def call(self, payload: object) -> InferenceCall:
        """Return the call of one payload. Raises BadInput that names the field, its value and what would be right."""
        return self._call(_object(payload))[0]

    def _call(self, payload: Mapping[str, Any]) -> tuple[InferenceCall, Mapping[str, str]]:
        """Return the call of one payload, and the fields that were corrected with the reason, a label of a metric."""
        call, left_out = self._fields.call(payload)
        return call._replace(identities=call_identities(payload, call.row)), left_out


def _skip_reason(payload: Mapping[str, Any]) -> tuple[str, str]:
    """Return why a payload does not count, in one word ("" if it counts), and a remark for the log ("" for none)."""
    call_type = payload.get("call_type")
    if not isinstance(call_type, str) or not call_type:
        return "", ""  # Of a version that does not say it.
    if call_type in BATCHES:
        reports = any(payload.get(name) for name in ("total_tokens", "prompt_tokens", "response_cost"))
        return ("", "") if reports else (BATCH, "")
    if call_type not in INFERENCE:
        return CALL_TYPE, f"calls of type {shorten(call_type)} are no inference, and are not counted"
    return "", ""


def _object(payload: object) -> Mapping[str, Any]:
    if not isinstance(payload, dict):
        raise BadInput("payload", type(payload).__name__, "give LiteLLM's standard logging payload, an object")
    return payload


def _split_body(body: bytes) -> list[object]:
    """Return the payloads of a body, each as JSON or decoded. Raises BadInput where they are too many."""
    check_json(body)
    text = body.strip()
    payloads = _decode_array(text) if text[:1] == b"[" and text[-1:] == b"]" else _decode_lines(text)
    check_items(len(payloads), "payloads")
    return payloads


def _decode_array(body: bytes) -> list[object]:
    """Return the elements of a JSON array: decoded, or as JSON if one of them cannot be decoded."""
    try:
        return list(msgspec.json.decode(body, type=list[Any]))
    except Exception:
        return list(bounded(json_elements(body), "payloads"))


def _decode_lines(body: bytes) -> list[object]:
    """Return the only object of a body, which may be printed over several lines, else its lines as JSON."""
    try:
        return [_decode_json(body)]
    except BadInput:
        lines = [line for line in body.split(b"\n") if line.strip()]
        if len(lines) < 2:
            raise
        return list(lines)


def _decode_json(text: bytes) -> Any:
    """Decode JSON. What is nested too deeply in it becomes null: no field that is read is."""
    try:
        return decode_or_repair(text, msgspec.json.decode)
    except Exception as error:  # A message of msgspec names a place, never the text there.
        raise BadInput("body", f"{len(text)} bytes", f"is no JSON that can be read: {describe(error)}") from None
