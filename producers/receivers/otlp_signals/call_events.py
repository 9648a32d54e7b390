"""Reads calls from events in OTLP's logs: those that Claude Code, Gemini CLI and Codex send for each answer of a model.

Of a record only the attributes named here are read. `user_prompt` events and others that hold texts are no calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from contracts.errors import BadInput
from producers.gateways.calls import NO_TENANT, InferenceCall, check_end_ms, text_or_empty
from producers.gateways.request_fields import RequestFields, RequestReader
from producers.gateways.token_names import whole_number
from producers.receivers.otlp_signals.decoding import AttributeValue, SignalItem, scalars
from producers.receivers.otlp_signals.rules import SERVICE, SignalRules
from producers.runtime.batching import decimal_text
from producers.runtime.call_bounds import NO_BOUNDS, CallBounds
from producers.runtime.deduplication import REPEATED, DeduplicationTrial
from producers.runtime.refusals import read_each
from producers.runtime.series_totals import series_of

EVENT, ORIGIN = "event.name", "otlp-logs"
OTHER, UNNAMED_SERVICE = "other", "service"
"""Reasons of records that do not count."""
NS = 1_000_000
_FIELDS = RequestFields(**{name: (name,) for name in RequestFields.model_fields})


class CallEvent(NamedTuple):
    """Names of an event's attributes, by the column that each fills.

    `beside_prompt` and `beside_completion` are counts that its prompt and its completion leave out. `only` are values
    that an attribute must have, because the event is sent for other reasons too; `aliases` are its other names, with ""
    for a record of the sender that has none.
    """

    prefix: str
    provider: str
    counts: Mapping[str, str]
    beside_prompt: tuple[str, ...] = ()
    beside_completion: tuple[str, ...] = ()
    duration: str = "duration_ms"
    cost: str = ""
    ids: tuple[str, ...] = ()
    only: Mapping[str, str] = {}
    first: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def attributes(self) -> set[str]:
        names = {EVENT, "model", self.duration, self.cost, self.first, "event.sequence", "status_code"}
        return names | {*self.counts.values(), *self.ids, *self.only} - {""}


CALL_EVENTS: Mapping[str, CallEvent] = {
    "claude_code.api_request": CallEvent(
        "claude_code", "anthropic",
        {
            "prompt_tokens": "input_tokens", "completion_tokens": "output_tokens", "cached_tokens": "cache_read_tokens",
            "cache_write_tokens": "cache_creation_tokens",
        },
        beside_prompt=("cached_tokens", "cache_write_tokens"), cost="cost_usd", ids=("request_id",), first="ttft_ms",
    ),
    "gemini_cli.api_response": CallEvent(
        "gemini_cli", "google",
        {
            "prompt_tokens": "input_token_count", "completion_tokens": "output_token_count",
            "cached_tokens": "cached_content_token_count", "reasoning_tokens": "thoughts_token_count",
            "tool_prompt_tokens": "tool_token_count",
        },
        beside_prompt=("tool_prompt_tokens",), beside_completion=("reasoning_tokens",), ids=("response_id",),
    ),
    "codex.sse_event": CallEvent(
        "codex", "openai",
        {
            "prompt_tokens": "input_token_count", "completion_tokens": "output_token_count",
            "cached_tokens": "cached_token_count", "reasoning_tokens": "reasoning_token_count",
            "cache_write_tokens": "cache_write_token_count",
        },
        ids=("response.id",), only={"event.kind": "response.completed"}, first="ttft_ms",
        # Of two records of an event, one has its name and the other one its counts.
        aliases=("codex.websocket_event", ""),
    ),
}  # fmt: skip


class EventCalls(NamedTuple):
    """New calls, errors of records that could not be read, and by reason those that do not count or were corrected."""

    calls: list[InferenceCall]
    refused: list[str]
    skipped: Mapping[str, int]
    corrected: Mapping[str, int]


class EventReader:
    """Reads calls from log records.

    `payer` maps the tenant that a record names ("" for none) to the one that pays. `sender` is who reports them.
    A record beyond `bounds` is refused.
    """

    def __init__(
        self, rules: SignalRules, names: Sequence[str], payer: Callable[[str], str] = str, sender: str = ORIGIN,
        bounds: CallBounds = NO_BOUNDS,
    ) -> None:  # fmt: skip
        self._bounds = bounds
        self._rules, self._payer, self._reader, self._sender = rules, payer, RequestReader(_FIELDS), sender
        self._events = {name: CALL_EVENTS[name] for name in names}
        self._names = {EVENT}.union(*(event.attributes for event in self._events.values()))

    def read(self, items: Sequence[SignalItem], trial: DeduplicationTrial, latest_ms: int) -> EventCalls:
        """Read the records of one message, and add the new calls to `trial`."""
        refused, skipped, calls = list[str](), Counter[str](), list[InferenceCall]()

        def read(item: SignalItem) -> InferenceCall | str:
            resource = item.resource.scalars(self._rules.names())
            attributes = scalars(item.message.attributes, self._names)
            name = self.event_of(item)
            if not name:
                return OTHER
            if not self._rules.counts(resource):
                return UNNAMED_SERVICE
            return self._call(name, item, attributes, resource, latest_ms)

        placed = ((f"log record {number}", item) for number, item in enumerate(items, 1))
        for call in read_each(placed, read, refused):
            if isinstance(call, str):
                skipped[call] += 1
            elif trial.has(call.identities[0]):
                skipped[REPEATED] += 1
            else:
                trial.add(call.identities)
                calls.append(call)
        return EventCalls(calls, refused, skipped, dict(self._reader.corrected))

    def event_of(self, item: SignalItem) -> str:
        """Return the name of the event that a record is, or "" for one that is no call.

        Claude Code writes the whole name to the body and its last part to `event.name`.
        """
        record, resource = item.message, item.resource.scalars(self._rules.names())
        attributes = scalars(record.attributes, self._names)
        body = record.body.string_value if record.HasField("body") else ""
        names_itself = {str(attributes.get(EVENT, "")), str(getattr(record, "event_name", ""))} - {""}
        own = {*names_itself, body[:128]} - ({""} if names_itself else set())
        sender = f"{item.scope} {resource.get(SERVICE, '')}".replace("-", "_").lower()
        for name, event in self._events.items():
            names = {name}
            if event.prefix in sender:
                names |= {name.removeprefix(f"{event.prefix}."), *event.aliases}
            if not own.isdisjoint(names):
                is_call = all(attributes.get(key) == value for key, value in event.only.items())
                return name if is_call and not attributes.keys().isdisjoint(event.counts.values()) else ""
        return ""

    def _call(
        self, name: str, item: SignalItem, attributes: Mapping[str, AttributeValue],
        resource: Mapping[str, AttributeValue], latest_ms: int,
    ) -> InferenceCall:  # fmt: skip
        event, record, own = self._events[name], item.message, self._rules.select(item.message.attributes)
        end_ms = (record.time_unix_nano or record.observed_time_unix_nano) // NS
        if end_ms <= 0:
            raise BadInput("timeUnixNano", end_ms, "give Unix nanoseconds")
        check_end_ms(end_ms, latest_ms, self._bounds.oldest_ms)
        counts = {column: _count(attribute, attributes.get(attribute)) for column, attribute in event.counts.items()}
        for column in ("prompt_tokens", "completion_tokens"):
            if counts[column] is None:
                raise BadInput(event.counts[column], None, "is needed")
        settled = {column: count or 0 for column, count in counts.items()}
        settled["prompt_tokens"] += sum(settled[column] for column in event.beside_prompt)
        settled["completion_tokens"] += sum(settled[column] for column in event.beside_completion)
        settled.pop("tool_prompt_tokens", None)
        session = self._rules.session_of(own, resource)
        tenant = self._payer(self._rules.tenant_of(own, resource))
        if not tenant:
            self._reader.corrected[NO_TENANT] += 1
        payload: dict[str, Any] = {
            "tenant": tenant or self._rules.otherwise,
            "model": text_or_empty(str(attributes.get("model", ""))) or "unknown", "end": end_ms,
            "duration_ms": attributes.get(event.duration, 0), "to_first_ms": attributes.get(event.first),
            "session_id": session, "trace_id": record.trace_id.hex(), "status": str(attributes.get("status_code", "")),
            "route": text_or_empty(str(resource.get(SERVICE, ""))), "provider": event.provider, **settled,
        }  # fmt: skip
        ids = [text for key in event.ids if (text := text_or_empty(str(attributes.get(key, ""))))]
        # Without an id of its own, a record is known by everything that was read of it.
        digest = series_of(
            name.encode(), str(record.time_unix_nano).encode(), repr(sorted(attributes.items())).encode(),
            session.encode(),
        )  # fmt: skip
        identity = ids[0] if ids else f"{digest:x}"
        row = self._reader.row({**payload, "request_id": identity}, identity)._replace(sender=self._sender)
        self._bounds.check(row)
        spend = _spend(attributes.get(event.cost)) if event.cost else ""
        return InferenceCall(row, (f"log {name} {identity}",), True, event.provider, spend)


def _count(name: str, value: AttributeValue | None) -> int | None:
    """Return a count, which may be a text, or None where there is none. Raises BadInput."""
    if value is None or value == "":
        return None
    number = whole_number(value)
    if number is None or number < 0:
        raise BadInput(name, f"({type(value).__name__})", "give a whole number of tokens")
    return number


def _spend(value: AttributeValue | None) -> str:
    """Return what the provider charges in USD, or "" for nothing. A cost that cannot be read costs no tokens."""
    try:
        usd = decimal_text("cost_usd", float(value)) if value not in (None, "") else "0"
    except (ValueError, BadInput):
        return ""
    return "" if usd == "0" or usd.startswith("-") else usd
