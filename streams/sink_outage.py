"""Outage of the warehouse as a worker experiences it: duration, rows that wait, and speed of catching up.

No clock and no I/O: times are passed in as epoch milliseconds, and sentences for the log are returned.
"""

from __future__ import annotations

SLACK_MS = 5_000
"""How far behind its usual lag a worker may be and still count as caught up."""


class SinkOutage:
    """The current outage, or the last one, which counts as recent for `idle_timeout_ms`."""

    def __init__(self, idle_timeout_ms: int) -> None:
        self._idle_timeout_ms = idle_timeout_ms
        self._last = (0, 0)
        """Begin and end of the last outage."""
        self._since_ms: int | None = None
        """Begin of the current outage."""
        self._back_ms: int | None = None
        """End of an outage that is not caught up with."""
        self._stored_ms = 0
        self._usual_lag_ms: int | None = None
        self.refused_ms = 0
        """When the warehouse last refused a write. A worker that waits for the warehouse is not stalled."""
        self.caught_rows = 0
        """Rows stored since the last outage ended, until it was caught up with."""

    def note_refused(self, began_ms: int, now_ms: int) -> None:
        """Note that a write, first tried at `began_ms`, was refused."""
        self.refused_ms = now_ms
        if self._since_ms is None:
            self._since_ms, self._back_ms = began_ms, None

    def note_accepted(self, now_ms: int, rows: int, waiting_rows: int) -> str | None:
        """Note that a write of so many rows was accepted. Return a sentence if that ends an outage."""
        self._stored_ms = now_ms
        self.caught_rows += rows
        if self._since_ms is None:
            return None
        began_ms, self._since_ms = self._since_ms, None
        if began_ms - self._last[1] < self._idle_timeout_ms:
            began_ms = self._last[0]
        self._last = began_ms, now_ms
        self._back_ms, self.caught_rows = now_ms, rows
        away_s = (now_ms - began_ms) / 1000
        return f"the warehouse takes writes again after {away_s:.1f} s; {waiting_rows} rows wait in memory"

    def note_lag(self, now_ms: int, lag_ms: int, overdue: bool) -> str | None:
        """Note the watermark's lag behind the clock, and whether windows are overdue. Call about once a second.

        Return a sentence when the worker has caught up: no window is overdue and the lag is what it was before the
        outage, or nothing was stored for `idle_timeout_ms`.
        """
        if self._since_ms is not None:
            return None
        if self._back_ms is None:
            self._usual_lag_ms = lag_ms
            return None
        usual_ms = lag_ms if self._usual_lag_ms is None else self._usual_lag_ms
        behind = overdue or lag_ms > usual_ms + SLACK_MS
        if behind and now_ms - self._stored_ms < self._idle_timeout_ms:
            return None
        took_s, rate = (self._stored_ms - self._back_ms) / 1000, self.catchup_rows_per_s(self._stored_ms)
        self._back_ms = None
        return f"caught up with the warehouse's outage in {took_s:.1f} s: {self.caught_rows} rows, {rate:.0f} a second"

    def away_s(self, now_ms: int) -> float:
        """Return the duration of the current outage in seconds; 0 if there is none."""
        return 0.0 if self._since_ms is None else (now_ms - self._since_ms) / 1000

    def catchup_rows_per_s(self, now_ms: int) -> float:
        """Return rows stored per second since the last outage ended; 0 once it is caught up with."""
        return 0.0 if self._back_ms is None else self.caught_rows / max(0.001, (now_ms - self._back_ms) / 1000)

    def exclude_outage(self, now_ms: int) -> int:
        """Return the time by which silence of topics is judged: without a recent outage.

        Reading may have waited through it. A topic that was not read is not silent, and its events are not late.
        """
        began_ms, ended_ms = self._last
        return now_ms - (ended_ms - began_ms) if now_ms - ended_ms < self._idle_timeout_ms else now_ms
