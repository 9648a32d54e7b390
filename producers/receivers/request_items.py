"""Reads one request from an object of `POST /v1/requests`. Pure.

Every field is checked by name. Fields are those of `RequestRow`, so a new column is taken as soon as it is declared.
The answer names those that are no field, and those that hold a prompt or an answer: their values are never looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, get_type_hints
from urllib.parse import urlsplit

from contracts import topics
from contracts.errors import BadInput
from contracts.events import MAX_SPAN_MS, MAX_TEXT, MAX_TIME_MS, MAX_TOKENS, TOKEN_COLUMNS
from contracts.workload_names import without_gpus
from producers.api import ReceivedRequest
from producers.gateways.calls import check_end_ms
from producers.gateways.request_fields import status_of
from producers.gateways.time_formats import duration_ms, number_of, time_ms
from producers.gateways.token_names import whole_number
from producers.gateways.token_usage import check_parts, usage_of_object
from producers.runtime.batching import RequestRow

PROMPT_FIELDS = frozenset({
    "messages", "prompt", "prompts", "input", "inputs", "output", "outputs", "choices", "content", "contents",
    "completion", "completions", "response", "request", "body", "text", "system", "instructions", "candidates", "tools",
    "tool_calls", "documents", "query", "reasoning", "message", "answer", "arguments",
})  # fmt: skip
"""Fields that hold a prompt or an answer."""
_ALIASES = {
    "id": "request_id", "input_tokens": "prompt_tokens", "output_tokens": "completion_tokens", "t_start_ms": "start",
    "t_first_ms": "first", "t_end_ms": "end",
}  # fmt: skip
_KINDS = {name: kind for name, kind in get_type_hints(RequestRow).items() if not name.startswith("t_")}
_TOKENS = tuple(c for c in TOKEN_COLUMNS if c.name in _KINDS)
_TOKEN_NAMES = frozenset(c.name for c in _TOKENS)
_NUMBERS = tuple(name for name, kind in _KINDS.items() if kind is int and name not in _TOKEN_NAMES)
_OWN = ("tenant", "model", "request_id", "status", "api_base", "sender")
_TEXTS = tuple(name for name, kind in _KINDS.items() if kind is str and name not in _OWN)
_DURATIONS_MS = {"duration_ms": 1.0, "duration_s": 1e3}
_TO_FIRST_MS = {"to_first_ms": 1.0, "to_first_s": 1e3}
_TOLERANCE_MS = 1_000
"""Difference of a duration and the two times that may come from two clocks."""
FIELDS = frozenset(
    {*_KINDS, *_ALIASES, *_DURATIONS_MS, *_TO_FIRST_MS, "start", "first", "end", "usage", "total_tokens", "workload",
     "cluster"}
)  # fmt: skip
"""Every field that is read."""


class RequestItem(NamedTuple):
    """A request, with the workload and the cluster that it names, or ""."""

    row: RequestRow
    cluster: str
    workload: str


class ItemReader:
    """Reads items.

    `tenant_header` is the header in which a trusted proxy names the tenant, "" for none. `otherwise` pays for an item
    of which nothing names a tenant; "" refuses it. `places` are the (cluster, workload) that a credential may name
    for which the configuration lists none; without credentials a client may name any. `sender` is who reports requests,
    where neither a credential nor an item says.
    """

    def __init__(
        self, *, cluster: str, places: Collection[tuple[str, str]] = (), tenant_header: str = "", otherwise: str = "",
        sender: str = "requests",
    ) -> None:  # fmt: skip
        self._cluster, self._places, self._sender = cluster, frozenset(places), sender
        self._tenant_header, self._otherwise = tenant_header.lower(), otherwise

    def read(self, item: object, sent: ReceivedRequest, latest_ms: int, *, trusted_place: bool = False) -> RequestItem:
        """Return the request of an item. Raises BadInput that names the field; it quotes no text.

        `trusted_place`: the configuration names its workload, not its sender.
        """
        if not isinstance(item, dict):
            raise BadInput("item", quotable(item), "give an object: one request")
        fields = {name: value for name, value in item.items() if value is not None}
        for alias, name in _ALIASES.items():
            if alias in fields:
                fields.setdefault(name, fields[alias])
        tenant = self._tenant(fields, sent)
        start_ms, first_ms, end_ms = _times(fields)
        check_end_ms(end_ms, latest_ms, sent.bounds.oldest_ms)
        columns: dict[str, Any] = _tokens(fields)
        columns |= {name: _number(name, fields[name]) for name in _NUMBERS if name in fields}
        columns |= {name: _text(fields, name) for name in _TEXTS if name in fields}
        columns["sender"] = sent.caller.name or _text(fields, "sender") or self._sender
        row = RequestRow(
            tenant=tenant,
            model=_text(fields, "model", needed=True),
            request_id=_text(fields, "request_id", needed=True),
            t_start_ms=start_ms,
            t_first_ms=first_ms,
            t_end_ms=end_ms,
            status=_status(fields),
            api_base=_address(_text(fields, "api_base")),
            **columns,
        )
        sent.bounds.check(row)
        return RequestItem(row, *self._place(fields, sent, trusted=trusted_place or not sent.caller.name))

    def _tenant(self, fields: Mapping[str, Any], sent: ReceivedRequest) -> str:
        named, caller = _text(fields, "tenant"), sent.caller
        if caller.tenants is not None:
            tenant = named or caller.tenant or ""
            if not caller.may_name(tenant):
                fix = "leave it out" if caller.tenant else "name one of them"
                raise BadInput("tenant", quotable(named), f"this credential's requests are its own tenants'; {fix}")
            return tenant
        header = sent.headers.get(self._tenant_header, "") if self._tenant_header else ""
        if header and named not in ("", header):
            raise BadInput("tenant", quotable(named), f"the header {self._tenant_header} names another; leave it out")
        tenant = header or named or self._otherwise
        if not tenant:
            raise BadInput("tenant", None, "is needed: who pays; or set produce.requests.otherwise")
        if len(tenant) > MAX_TEXT or not tenant.isprintable():
            raise BadInput("tenant", quotable(tenant), f"give 1 to {MAX_TEXT} printable characters")
        if tenant.startswith("__"):
            raise BadInput("tenant", quotable(tenant), "names that begin with '__' are Wattlog's own")
        return tenant

    def _place(self, fields: Mapping[str, Any], sent: ReceivedRequest, *, trusted: bool) -> tuple[str, str]:
        """Return the cluster and the workload that an item names, or two empty texts."""
        workload, cluster = _text(fields, "workload"), _text(fields, "cluster") or self._cluster
        if not workload:
            if "cluster" in fields:
                raise BadInput("cluster", quotable(cluster), "give a workload too")
            return "", ""
        topics.check_name("cluster", cluster)
        listed = sent.workloads is not None or trusted or without_gpus(workload)
        if not sent.may_use(cluster, workload) or not (listed or (cluster, workload) in self._places):
            raise BadInput(
                "workload", quotable(workload),
                "neither a rule of `deployments` nor a list of its sender names it; leave it out, or list it",
            )  # fmt: skip
        return cluster, workload


def quotable(value: object) -> object:
    """Return what an error may say of a value: numbers as they are, the length of a text, the class of all else."""
    if isinstance(value, str):
        return f"(a text of {len(value)} characters)"
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 1e30):
        return value
    return f"({type(value).__name__})"


def _text(fields: Mapping[str, Any], name: str, *, needed: bool = False) -> str:
    value = fields.get(name, "")
    if needed and value == "":
        raise BadInput(name, None, "is needed")
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1e30:
        value = str(value)
    if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
        raise BadInput(name, quotable(value), f"give a text of at most {MAX_TEXT} printable characters")
    return value


def _status(fields: Mapping[str, Any]) -> str:
    value = fields.get("status")
    return status_of(str(value).lower() if isinstance(value, bool) else _text(fields, "status") or "ok")


def _number(name: str, value: Any) -> int:
    number = whole_number(value)
    if number is None or not 0 <= number <= MAX_TOKENS:
        raise BadInput(name, quotable(value), "give a whole number, 0 to 2^31-1")
    return number


def _tokens(fields: Mapping[str, Any]) -> dict[str, int]:
    """Return the counts of tokens by column: from the fields themselves, else from the object `usage`."""
    reported = _usage(fields["usage"]) if "usage" in fields else {}
    named = {c.name: _number(c.name, fields[c.name]) for c in _TOKENS if c.name in fields}
    for name in named.keys() & reported.keys():
        if named[name] != reported[name]:
            raise BadInput(name, named[name], f"`usage` says {reported[name]}; send one of the two")
    counts = reported | named
    failed = _status(fields) != "ok"
    for name in ("prompt_tokens", "completion_tokens"):
        if name not in counts and not failed:
            raise BadInput(name, None, "is needed; 0 where there are none")
    counts = {c.name: counts.get(c.name, 0) for c in _TOKENS}
    _check_total(fields, counts)
    for c in _TOKENS:
        if c.part_of and counts[c.name] > counts[c.part_of]:
            raise BadInput(c.name, counts[c.name], f"is a part of {c.part_of}, which are {counts[c.part_of]}")
    return counts


def _usage(values: object) -> dict[str, int]:
    """Return the counts of a `usage` object by column: those that it has. Raises BadInput."""
    usage = usage_of_object(values)
    if usage is None:
        raise BadInput("usage", quotable(values), "give the `usage` object of a model's API, or counts by name")
    reader, settled = usage
    for column, value in reader.invalid.items():
        raise BadInput(f"usage ({column})", quotable(value), "give a whole number, 0 to 2^31-1")
    check_parts(reader.counts, settled)
    needed = {"completion_tokens"} if "total_tokens" in reader.counts else set()
    return {name: count for name, count in settled.counts.items() if name in reader.counts.keys() | needed}


def _check_total(fields: Mapping[str, Any], counts: dict[str, int]) -> None:
    """Raise BadInput for a total that is not the sum of prompt and completion."""
    if "total_tokens" in fields:
        total, sum_ = (
            _number("total_tokens", fields["total_tokens"]),
            counts["prompt_tokens"] + counts["completion_tokens"],
        )
        if total != sum_:
            raise BadInput(
                "total_tokens", total, f"prompt and completion are {sum_}; the prompt includes cached tokens"
            )


def _times(fields: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return start, first token (0 if unknown) and end in epoch ms."""
    start, end = (_time(fields, name) for name in ("start", "end"))
    took_ms = _duration(fields, _DURATIONS_MS)
    if start is None and end is None:
        raise BadInput("start", None, "give start and end, or one of them and a duration")
    if start is None or end is None:
        if took_ms is None:
            raise BadInput("end" if end is None else "start", None, "is needed, or a duration")
        start, end = (start, start + took_ms) if start is not None else ((end or 0) - took_ms, end or 0)
    elif took_ms is not None and abs(end - start - took_ms) > max(_TOLERANCE_MS, took_ms // 100):
        raise BadInput("duration_ms", took_ms, f"start and end are {end - start} ms apart; send two of the three")
    if not 0 <= start <= end <= min(start + MAX_SPAN_MS, MAX_TIME_MS):
        raise BadInput("end", end, "must be 0 to 6 hours after start")
    first, to_first_ms = _time(fields, "first"), _duration(fields, _TO_FIRST_MS)
    if first is None:
        first = 0 if to_first_ms is None else start + to_first_ms
    if first and not start <= first <= end:
        raise BadInput("first", first, "must lie between start and end; leave it out if it is unknown")
    return start, first, end


def _time(fields: Mapping[str, Any], name: str) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    try:
        return time_ms(name, value)
    except BadInput as error:
        raise BadInput(name, value if number_of(value) is not None else quotable(value), error.fix) from None


def _duration(fields: Mapping[str, Any], units: Mapping[str, float]) -> int | None:
    """Return a duration in ms from the first of these fields that is there, or None."""
    for name, unit_ms in units.items():
        if name in fields:
            try:
                return round(duration_ms(name, fields[name], unit_ms))
            except BadInput as error:
                raise BadInput(name, quotable(fields[name]), error.fix) from None
    return None


def _address(text: str) -> str:
    """Return an address without user, password and query: it may be shown."""
    if "@" not in text and "?" not in text:
        return text
    try:
        parts = urlsplit(text)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    except ValueError:
        return ""
