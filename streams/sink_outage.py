"""An outage of the warehouse as a worker lives through it: how long, what waits, and how fast it catches up after it.

No clock and no I/O: times come in as epoch milliseconds, sentences for the log come out.
"""

from __future__ import annotations

SLACK_MS = 5_000
"""How far behind its usual lag a worker may be and still count as caught up."""


class SinkOutage:
    """See the module. An outage counts as recent for `idle_timeout_ms` after it."""

    def __init__(self, idle_timeout_ms: int) -> None:
        self._idle_timeout_ms = idle_timeout_ms
        self._last = (0, 0)
        self._since_ms: int | None = None
        self._back_ms: int | None = None
        self._stored_ms = 0
        self._usual_lag_ms: int | None = None
        self.refused_ms = 0
        """When the warehouse last refused a write: a warehouse that is away is no stall; it is told, and waited for."""
        self.caught_rows = 0
        """Rows stored since the warehouse was back from the last outage, until that was caught up with."""

    def refused(self, began_ms: int, now_ms: int) -> None:
        """A write that was first tried at `began_ms` was refused."""
        self.refused_ms = now_ms
        if self._since_ms is None:
            self._since_ms, self._back_ms = began_ms, None

    def taken(self, now_ms: int, rows: int, waiting_rows: int) -> str | None:
        """A write of so many rows was taken. A sentence if that ends an outage."""
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

    def round(self, now_ms: int, lag_ms: int, behind: bool) -> str | None:
        """Once in a while: `lag_ms` is how far what was read is behind the clock, `behind` whether windows wait that
        could be final. A sentence when the worker has caught up: when none does and the lag is what it was before the
        outage, or when nothing has been stored for a while."""
        if self._since_ms is not None:
            return None
        if self._back_ms is None:
            self._usual_lag_ms = lag_ms
            return None
        usual_ms = lag_ms if self._usual_lag_ms is None else self._usual_lag_ms
        late = behind or lag_ms > usual_ms + SLACK_MS
        if late and now_ms - self._stored_ms < self._idle_timeout_ms:
            return None
        took_s, rate = (self._stored_ms - self._back_ms) / 1000, self.catchup_rows_per_s(self._stored_ms)
        self._back_ms = None
        return f"caught up with the warehouse's outage in {took_s:.1f} s: {self.caught_rows} rows, {rate:.0f} a second"

    def away_s(self, now_ms: int) -> float:
        """How long the outage of now has lasted; 0 if there is none."""
        return 0.0 if self._since_ms is None else (now_ms - self._since_ms) / 1000

    def catchup_rows_per_s(self, now_ms: int) -> float:
        """Rows stored a second since the last outage ended; 0 when that is caught up with."""
        return 0.0 if self._back_ms is None else self.caught_rows / max(0.001, (now_ms - self._back_ms) / 1000)

    def without(self, now_ms: int) -> int:
        """The time by which silence is judged: less an outage that has just ended. Reading may have waited through it,
        and a topic that was not read is not silent: what waits there would come late."""
        began_ms, ended_ms = self._last
        return now_ms - (ended_ms - began_ms) if now_ms - ended_ms < self._idle_timeout_ms else now_ms
