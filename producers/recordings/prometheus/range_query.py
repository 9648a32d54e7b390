"""Client of range queries: the samples of a selector at regular times, with retries and errors by name.

https://prometheus.io/docs/prometheus/latest/querying/api/#range-queries. Thanos, Mimir and VictoriaMetrics answer the
same; a server ignores the parameters that only another one knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import msgspec

from contracts.errors import BadInput, Unavailable
from producers.common.http_client import Pages
from producers.common.json_text import decode_or_repair

ATTEMPTS = 6
BACKOFF_S = 1.0
MAX_BACKOFF_S = 20.0
MIN_LOOKBACK_S, MAX_LOOKBACK_S = 120, 300
"""A sample counts for later moments up to two steps, within these bounds. The upper one is Prometheus' default."""
_RETRYABLE = frozenset({408, 429, 500, 502, 503, 504})
_TOO_MUCH = re.compile(r"exceed|too many|too large|limit|timed out|timeout|cannot process more", re.I)
"""Errors of the servers that a shorter range avoids: samples, chunks or points of a query, and its time."""
SHOWN_CHARS = 300
MATCHER = re.compile(r"([a-zA-Z_]\w*)(=~|!~|!=|=)(.*)", re.S)


class RangeSeries(msgspec.Struct):
    """One series: its labels, and its samples as (UTC epoch seconds, value as text)."""

    metric: dict[str, str]
    values: list[tuple[float, str]] = []


class _Data(msgspec.Struct, rename={"result_type": "resultType"}):
    result_type: str = ""
    result: list[msgspec.Raw] = []


class _Reply(msgspec.Struct, rename={"error_type": "errorType", "is_partial": "isPartial"}):
    status: str
    data: _Data | None = None
    error: str = ""
    error_type: str = ""
    warnings: list[str] = []
    is_partial: bool = False


_decode = msgspec.json.Decoder(_Reply).decode
decode_series = msgspec.json.Decoder(RangeSeries).decode


class RangeTooLong(Unavailable):
    """The server cannot answer for so long a range at once."""


def selector(sample: str, matchers: tuple[str, ...]) -> str:
    """Return the selector of a sample's series. Raises BadInput for a matcher that is none (`label=value`)."""
    parts = []
    for text in matchers:
        match = MATCHER.fullmatch(text)
        if not match:
            raise BadInput("match", text, "give LABEL=VALUE, LABEL!=VALUE, LABEL=~REGEX or LABEL!~REGEX")
        value = match[3].replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
        parts.append(f'{match[1]}{match[2]}"{value}"')
    return f"{sample}{{{','.join(parts)}}}" if parts else sample


class RangeClient:
    """Client of the server at `url`. `wait` sleeps for seconds; `jitter` returns 0 to 1.

    `parameters` go with each query. Answers that a server marks as incomplete are refused unless `allow_partial`; then
    `warnings` has them.
    """

    def __init__(
        self, url: str, pages: Pages, wait: Callable[[float], None], jitter: Callable[[], float], *,
        headers: Mapping[str, str], parameters: Mapping[str, str], allow_partial: bool = False,
    ) -> None:  # fmt: skip
        self._url = f"{url.rstrip('/')}/api/v1/query_range"
        self._pages, self._wait, self._jitter, self._headers = pages, wait, jitter, headers
        self._parameters, self._allow_partial = parameters, allow_partial
        self.warnings: set[str] = set()

    def series(self, query: str, start_s: int, end_s: int, step_s: int) -> list[msgspec.Raw]:
        """Return the series at each step from start to end, both included, for `decode_series`: each can fail alone.

        Raises RangeTooLong where a shorter range may be answered, BadInput where the query is wrong, and Unavailable
        for everything else: after retries where they may help.
        """
        lookback_s = min(max(2 * step_s, MIN_LOOKBACK_S), MAX_LOOKBACK_S)
        form = {
            "query": query, "start": str(start_s), "end": str(end_s), "step": str(step_s),
            "lookback_delta": f"{lookback_s}s",
            "max_lookback": f"{lookback_s}s", "nocache": "1",
            "deny_partial_response": str(int(not self._allow_partial)),  # VictoriaMetrics
            "max_source_resolution": "0s", "partial_response": str(self._allow_partial).lower(),  # Thanos
        } | dict(self._parameters)  # fmt: skip
        reply = self._ask(form)
        notices = [*reply.warnings, *["the answer is partial (isPartial)"] * reply.is_partial]
        if notices and not self._allow_partial:
            raise Unavailable(
                f"{self._url} answers in part only: {_excerpt(notices[0])}",
                "Some of its stores are away. Mend them, or take what there is with --allow-partial.",
                reason="partial", lasting=True,
            )  # fmt: skip
        self.warnings.update(notices[:10])
        data = reply.data or _Data()
        if data.result_type not in ("matrix", ""):
            raise BadInput("url", self._url, f"answers a {data.result_type}, not the samples of a range")
        return data.result

    def _ask(self, form: Mapping[str, str]) -> _Reply:
        """Return a successful reply; try again with backoff where that may help."""
        trouble = Unavailable(f"{self._url} was not asked", "")
        for attempt in range(ATTEMPTS):
            if attempt:
                self._wait(min(MAX_BACKOFF_S, BACKOFF_S * 2 ** (attempt - 1)) * (0.5 + 0.5 * self._jitter()))
            try:
                status, text = self._pages.answer("POST", self._url, data=form, headers=self._headers)
            except Unavailable as error:
                if error.reason == "too_large":
                    raise RangeTooLong(error.problem, "Match fewer GPUs (--match).", reason=error.reason) from None
                trouble = error
                if error.reason == "timeout" and attempt:
                    raise RangeTooLong(error.problem, error.hint, reason=error.reason) from None
                continue
            reply = self._reply(status, text)
            if isinstance(reply, _Reply):
                return reply
            trouble = reply
            if status not in _RETRYABLE or isinstance(reply, RangeTooLong):
                break
        raise trouble

    def _reply(self, status: int, text: str) -> _Reply | Unavailable:
        """Return a successful reply, or the error that the server answers. Raises BadInput for a wrong query."""
        try:
            reply = decode_or_repair(text.encode(errors="replace"), _decode)
        except Exception as error:
            reply = _Reply("", error=_excerpt(text) if status != 200 else f"no answer of Prometheus: {error}")
        if status == 200 and reply.status == "success":
            return reply
        problem = f"{self._url} answers {status}: {_excerpt(reply.error) or 'no text'}"
        if status in (401, 403):
            return Unavailable(problem, "Give --bearer-file, --user with --password-file, or --header.", lasting=True)
        if status == 404:
            return Unavailable(problem, "Is that the address of its API, without /api/v1?", lasting=True)
        if _TOO_MUCH.search(reply.error) and status != 429:
            return RangeTooLong(problem, "Match fewer GPUs (--match), or raise the server's limits.")
        if reply.error_type == "bad_data" or (status in (400, 422) and reply.status == "error"):
            raise BadInput("query", self._url, f"it answers {status}: {_excerpt(reply.error)}")
        return Unavailable(problem, "Is that Prometheus? Is it overloaded?", reason=f"status_{status}")


def _excerpt(text: str) -> str:
    """Return the beginning of a server's text, as one printable line."""
    line = " ".join(text.split())[:SHOWN_CHARS]
    return "".join(c if c.isprintable() else "?" for c in line)
