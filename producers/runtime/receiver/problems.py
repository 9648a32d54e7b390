"""Reasons why a request was not accepted, as RFC 9457 problem details (`application/problem+json`). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec

from contracts.errors import AccessDenied, BadInput, Unavailable, WattlogError

MEDIA_TYPE = "application/problem+json"
MAX_NAMED_VALUES = 20
"""Maximum number of invalid values that one answer names."""
_MAX_QUOTE_CHARS = 80
RETRY_S = 5
"""Default of the Retry-After header, in seconds."""


class InvalidValue(NamedTuple):
    """Invalid value of a request with its fix. `event_index` is the position of its event; None for none.

    `pointer` is a JSON pointer to the value (RFC 6901), or "".
    """

    event_index: int | None
    field: str
    value: str
    fix: str
    pointer: str = ""

    @classmethod
    def from_error(cls, error: Exception, event_index: int | None = None) -> InvalidValue:
        """Return what an error says. One of an unexpected class names no field."""
        if isinstance(error, BadInput):
            return cls(event_index, error.field, quote_value(error.value), error.fix)
        return cls(event_index, "event", type(error).__name__, "it cannot be read")

    def as_json(self) -> dict[str, Any]:
        """Return the value as one of a problem's `errors`."""
        place: dict[str, Any] = {} if self.event_index is None else {"index": self.event_index}
        pointer = {"pointer": self.pointer} if self.pointer else {}
        return {"field": self.field, "value": self.value, "detail": self.fix} | place | pointer

    @property
    def path(self) -> str:
        return self.field if self.event_index is None else f"[{self.event_index}].{self.field}"

    def __str__(self) -> str:
        return f"{self.path}: {self.value}: {self.fix}"


class Rejected(WattlogError):  # noqa: N818 - an answer to the client, not a fault of the process
    """Answer to a request of which nothing was accepted.

    `kind` ends the problem's type URN and is the reason in /metrics. `log_text` is the detail without any value that a
    client sent, because it may be a text of a prompt.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        invalid_values: Sequence[InvalidValue] = (),
        retry_s: int | None = None,
        log_text: str = "",
    ) -> None:
        self.status, self.kind, self.detail, self.invalid_values, self.retry_s = (
            status,
            kind,
            detail,
            invalid_values,
            retry_s,
        )
        self.log_text = log_text or detail
        super().__init__(detail)

    @classmethod
    def invalid(cls, invalid_values: Sequence[InvalidValue]) -> Rejected:
        """Return the answer 422, which names the first `MAX_NAMED_VALUES` of these values."""
        more = f"; and {len(invalid_values) - 1} more" if len(invalid_values) > 1 else ""
        detail = f"{invalid_values[0]}{more}. Nothing of this request was accepted."
        log_text = f"{invalid_values[0].path}: {invalid_values[0].fix}{more}"
        return cls(422, "invalid-value", detail, invalid_values=invalid_values, log_text=log_text)


def quote_value(value: object) -> str:
    """Return a value as an answer repeats it, cut to a bounded length."""
    try:
        text = repr(value)
    except Exception:  # An integer of thousands of digits, a list that is nested too deeply.
        text = f"({type(value).__name__})"
    return text if len(text) <= _MAX_QUOTE_CHARS else text[: _MAX_QUOTE_CHARS - 3] + "..."


def to_rejection(error: WattlogError) -> Rejected:
    """Return the answer to a request that raised this error. Internal errors reveal no details to the client."""
    match error:
        case Rejected():
            return error
        case BadInput():
            return Rejected.invalid([InvalidValue.from_error(error)])
        case AccessDenied():
            return Rejected(error.status, "unauthenticated" if error.status == 401 else "forbidden", error.detail)
        case Unavailable():
            return Rejected(503, "unavailable", "This cannot be accepted now; send it again later.", retry_s=RETRY_S)
        case _:
            return Rejected(500, "internal", "This is a fault of the server; its log says more.")


def encode_problem(error: Rejected, path: str) -> tuple[dict[str, str], bytes]:
    """Return headers and body of the answer to a request for `path`."""
    body: dict[str, Any] = {
        "type": f"urn:wattlog:problem:{error.kind}",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.detail,
        "instance": path,
    }
    if error.invalid_values:
        body["errors"] = [v.as_json() for v in error.invalid_values[:MAX_NAMED_VALUES]]
    headers = {"content-type": MEDIA_TYPE}
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    if error.retry_s is not None:
        headers["retry-after"] = str(error.retry_s)
    return headers, msgspec.json.encode(body)
