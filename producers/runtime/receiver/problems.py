"""Reasons why a request was not accepted, as RFC 9457 problem details (`application/problem+json`). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec

from contracts.errors import AccessDenied, BadInput, Unavailable, WattlogError

MEDIA_TYPE = "application/problem+json"
MAX_TOLD = 20
"""Wrong values that one answer names."""
_SHOWN = 80
RETRY_S = 5


class Wrong(NamedTuple):
    """One value that is wrong, what would be right, and in which of the request's events it stands (None: no one's)."""

    at: int | None
    field: str
    value: str
    mend: str

    @classmethod
    def of(cls, error: BadInput, at: int | None = None) -> Wrong:
        return cls(at, error.field, shown(error.value), error.fix)

    def __str__(self) -> str:
        where = self.field if self.at is None else f"[{self.at}].{self.field}"
        return f"{where}: {self.value}: {self.mend}"


class Rejected(WattlogError):  # noqa: N818 - it is the answer, not a fault
    """A request of which nothing was accepted. `kind` ends the problem's type URN and is the reason in /metrics."""

    def __init__(
        self, status: int, kind: str, detail: str, *, wrong: Sequence[Wrong] = (), retry_s: int | None = None
    ) -> None:
        self.status, self.kind, self.detail, self.wrong, self.retry_s = status, kind, detail, wrong, retry_s
        super().__init__(detail)

    @classmethod
    def invalid(cls, wrong: Sequence[Wrong]) -> Rejected:
        """422 for values that are wrong; names the first `MAX_TOLD` of them."""
        more = f"; and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        return cls(422, "invalid-value", f"{wrong[0]}{more}. Nothing of this request was accepted.", wrong=wrong)


def shown(value: object) -> str:
    """A value as an answer may repeat it: short."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def of(error: WattlogError) -> Rejected:
    """Any of our errors as the answer to a request. What is ours alone says nothing of the inside."""
    match error:
        case Rejected():
            return error
        case BadInput():
            return Rejected.invalid([Wrong.of(error)])
        case AccessDenied():
            return Rejected(error.status, "unauthenticated" if error.status == 401 else "forbidden", error.detail)
        case Unavailable():
            return Rejected(503, "unavailable", "This cannot be accepted now; send it again later.", retry_s=RETRY_S)
        case _:
            return Rejected(500, "internal", "This is a fault of the server; its log says more.")


def answer(error: Rejected, path: str) -> tuple[dict[str, str], bytes]:
    """Headers and body of an answer to a request for `path`."""
    body: dict[str, Any] = {
        "type": f"urn:wattlog:problem:{error.kind}",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.detail,
        "instance": path,
    }
    if error.wrong:
        body["errors"] = [
            {"field": w.field, "value": w.value, "detail": w.mend} | ({} if w.at is None else {"index": w.at})
            for w in error.wrong[:MAX_TOLD]
        ]
    headers = {"content-type": MEDIA_TYPE}
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    if error.retry_s is not None:
        headers["retry-after"] = str(error.retry_s)
    return headers, msgspec.json.encode(body)
