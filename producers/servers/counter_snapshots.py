"""Snapshots of a server's counters, and what was served between two readings at its page, as rows of tokens. Pure.

Each series is differenced alone (`series_growth`), and the growths are summed by model, tenant and status. Three rules
keep tokens from being invented:

* Where start times show that several servers answer at one address (`server_identity`), nothing is counted.

* Where a series goes back without a restart, a second server may have answered. What others grew by is held for
  HOLD_READINGS readings. A jump out of all proportion is held, too, where no start time tells the server from others:
  for an hour, unless most of the next readings show such growth, too. If a series goes back a second time within an
  hour, or counters jump once within a day after one went back, several servers answer.

* A row that no server of its hardware can produce in its time is refused (`token_limits`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import msgspec

from contracts.errors import BadInput
from producers.runtime.refusals import ItemRefusal
from producers.servers.cached_tokens import AHEAD_MS, CachedShare, cached_share
from producers.servers.series_growth import (
    KnownSeries,
    PageScrape,
    SeriesGrowth,
    missing_series,
    series_growths,
    tokens_of,
)
from producers.servers.served_rows import ServedRow, rows_of
from producers.servers.server_identity import (
    SEVERAL_HINT,
    STILL_MS,
    ProcessChanges,
    process_changes,
    time_text,
)
from producers.servers.token_counters import ServedTotals
from producers.servers.token_limits import DEFAULT_LIMIT, above_limit

HOLD_READINGS = 10
"""Looks without another step back after which what is held counts."""
BACKS_MS = 86_400_000
"""Time for which it is remembered that a series went back."""
JUMP_TOKENS, JUMP_FACTOR = 10_000, 10
"""Growth that is held where another server may have answered: above both, as tokens, and as a multiple of the greatest
rate."""
MAX_GROUPS = 20_000
"""Pairs of model and tenant on one page."""
MAX_PROCESSES = 1_000


class ServerCounterSnapshot(msgspec.Struct, frozen=True, omit_defaults=True):
    """Counters of a server at one time. Stored as the source's checkpoint.

    `started_ms` and `totals` are those of releases that differenced totals by model; `series` and `missing` are those
    of `KnownSeries`. While growth is held, `held_ms` is since when, `latest` has the values of the last reading, and
    `held_tokens` is what they showed in all, `held_jumps` how many of them showed a jump.
    `backs` are the times at which series went back, `several_ms` the last sign of several servers. `waiting` are cached
    tokens that are ahead of their prompts. `peak_rate` is the greatest growth so far, in tokens per second.
    """

    t_ms: int
    started_ms: int | None
    totals: dict[str, ServedTotals] = msgspec.field(name="told", default_factory=dict)  # the name in stored checkpoints
    series: dict[str, int] = {}
    missing: dict[str, tuple[int, int]] = {}
    starts: dict[str, int] = {}
    waiting: dict[str, list[tuple[int, int]]] = {}
    held_ms: int = 0
    held_readings: int = 0
    held_jumps: int = 0
    held_tokens: int = 0
    latest: dict[str, int] = {}
    backs: dict[str, int] = {}
    several_ms: int = 0
    peak_rate: int = 0

    @property
    def known(self) -> KnownSeries:
        """Values of the readings so far."""
        return KnownSeries(self.t_ms, self.held_ms or self.t_ms, self.series, self.latest, self.missing)


class ServedSince(NamedTuple):
    """Result of a reading: the next snapshot, rows, and sentences on restarts, on what is left out, and for the log.

    `is_complete` is False while rows for the time before the reading may follow, or are refused.
    """

    snapshot: ServerCounterSnapshot
    rows: Sequence[ServedRow] = ()
    restarts: Sequence[str] = ()
    refused: Sequence[str] = ()
    notes: Sequence[str] = ()
    is_complete: bool = True


def served_since(
    before: ServerCounterSnapshot | None, scrape: PageScrape, *, limit: int = DEFAULT_LIMIT, born_ms: int | None = None
) -> ServedSince:
    """Return what was served since the last reading. The first reading only begins.

    `born_ms` is when a server came to be that was not there before: then its first reading counts from 0. `limit` is in
    tokens per second.
    """
    if before is None:
        if born_ms is None:
            return ServedSince(_begun(scrape))
        before = ServerCounterSnapshot(min(born_ms, scrape.t_ms), None)
        changes = ProcessChanges(frozenset({*scrape.starts, *scrape.processes}))
    elif before.totals and not before.series:
        note = f"the last reading, of {time_text(before.t_ms)}, is an earlier release's: tokens count from now on"
        return ServedSince(_begun(scrape), notes=[note])
    else:
        changes = process_changes(before.starts, scrape.starts, before.held_ms or before.t_ms)
    growths = series_growths(before.known, scrape, changes)
    backs = {key: t_ms for key, t_ms in before.backs.items() if scrape.t_ms - t_ms < BACKS_MS}
    again = [g for g in growths if g.is_back and scrape.t_ms - backs.get(g.key, 0) < STILL_MS]
    several = changes.several
    if again and not several:
        several = f"{again[0].series.name} went back for the second time within an hour"
    held = _held(before, scrape, growths)
    if held.is_lone and backs and not several:
        several = f"{held.tokens:,} tokens more at once, within a day after counters went back"
    if several or before.several_ms:
        is_sign = bool(several or changes.doubtful) or any(g.is_back for g in growths)
        reason = "" if before.several_ms else several  # Once; then the same sentence, which is logged once a minute.
        return _of_several(scrape, reason, scrape.t_ms if is_sign else before.several_ms)
    backs |= {g.key: scrape.t_ms for g in growths if g.is_back}
    return _counted(before, scrape, changes, growths, backs, held, limit)


class _Held(NamedTuple):
    """Growth of series that another server's counters may stand for, in tokens, and the readings that showed jumps, of
    those since it is held."""

    tokens: int
    jumps: int
    readings: int
    is_held: bool

    @property
    def is_lone(self) -> bool:
        """Return whether it jumped, and most of the readings that followed showed no jump."""
        return self.readings >= HOLD_READINGS and 0 < 2 * self.jumps <= self.readings


def _held(before: ServerCounterSnapshot, scrape: PageScrape, growths: Sequence[SeriesGrowth]) -> _Held:
    """Return what is held with this reading, and whether it must be."""
    tokens = tokens_of([g for g in growths if not g.is_sure])
    bound = max(JUMP_TOKENS, JUMP_FACTOR * before.peak_rate * (scrape.t_ms - before.t_ms) // 1000)
    is_jump = tokens - before.held_tokens > bound
    if any(g.is_back for g in growths):
        return _Held(tokens, 0, 0, is_held=True)
    if not before.held_ms:
        return _Held(tokens, int(is_jump), 0, is_held=is_jump)
    held = _Held(tokens, before.held_jumps + is_jump, before.held_readings + 1, is_held=True)
    is_over = held.readings >= HOLD_READINGS and (not held.is_lone or scrape.t_ms - before.held_ms >= STILL_MS)
    return held._replace(is_held=not is_over)


def _begun(scrape: PageScrape, *, several_ms: int = 0) -> ServerCounterSnapshot:
    """Return the snapshot of a reading that only begins."""
    values = {key: s.value for key, s in zip(scrape.keys(), scrape.series, strict=True) if s.value is not None}
    return ServerCounterSnapshot(
        scrape.t_ms, scrape.starts.get(""), series=values, starts=dict(scrape.starts), several_ms=several_ms
    )


def _of_several(scrape: PageScrape, reason: str, sign_ms: int) -> ServedSince:
    """Return no rows. After an hour in which one server alone has answered, the next reading counts again."""
    if scrape.t_ms - sign_ms >= STILL_MS:
        note = "one server alone has answered for an hour: its tokens count from now on"
        return ServedSince(_begun(scrape), notes=[note], is_complete=False)
    text = f"{reason or 'several servers answer here'}: {SEVERAL_HINT}"
    return ServedSince(
        _begun(scrape, several_ms=sign_ms), refused=[ItemRefusal(text, "several_servers")], is_complete=False
    )


def _counted(
    before: ServerCounterSnapshot, scrape: PageScrape, changes: ProcessChanges, growths: Sequence[SeriesGrowth],
    backs: dict[str, int], held: _Held, limit: int,
) -> ServedSince:  # fmt: skip
    """Return the rows of growths, or hold them."""
    known = before.known
    starts = before.starts | dict(scrape.starts)
    after = ServerCounterSnapshot(
        scrape.t_ms, starts.get(""), starts=dict(islice(starts.items(), max(len(starts) - MAX_PROCESSES, 0), None)),
        missing=missing_series(known, scrape, changes, {g.key for g in growths}), waiting=before.waiting, backs=backs,
        peak_rate=before.peak_rate,
    )  # fmt: skip
    went_back = [g.series.name for g in growths if g.is_back]
    refused = [_step_back(went_back)] if went_back else []
    notes = [_doubt(process, scrape.starts[process]) for process in sorted(changes.doubtful)]
    restarts = [_restart(process, scrape.starts[process]) for process in sorted(changes.replaced)]
    length_ms = scrape.t_ms - known.counted_ms
    is_explained = changes.restarted >= set(scrape.processes)  # Restarts explain counters that went back.
    if not held.is_held or is_explained or above_limit(held.tokens, length_ms, limit):
        return _believed(after, scrape, growths, limit, ServedSince(after, (), restarts, refused, notes))
    if held.jumps and not before.held_ms:
        notes.append(f"{held.tokens:,} tokens at once, and no start time that tells this server from others: held for "
                     f"{HOLD_READINGS} readings, or an hour if few follow, in case another one answered")  # fmt: skip
    snapshot = msgspec.structs.replace(
        after, held_ms=known.counted_ms, held_readings=held.readings, held_jumps=held.jumps, held_tokens=held.tokens,
        series={g.key: g.base for g in growths}, latest={g.key: g.value for g in growths},
    )  # fmt: skip
    return ServedSince(snapshot, (), restarts, refused, notes, is_complete=False)


def _believed(
    after: ServerCounterSnapshot, scrape: PageScrape, growths: Sequence[SeriesGrowth], limit: int, served: ServedSince
) -> ServedSince:
    """Return `served` with the rows of growths, without those that are beyond the limit."""
    rows, waiting, dropped = _rows(after.waiting, growths, scrape.t_ms)
    refused = list(served.refused)
    if dropped:
        text = f"{dropped:,} cached tokens stayed ahead of all prompts for 5 minutes: left out"
        refused.append(ItemRefusal(text, "cached_ahead"))
    accepted: list[ServedRow] = []
    for row in rows:
        if above_limit(row.size, row.t1_ms - row.t0_ms, limit):
            refused.append(_refusal(row, limit))
        else:
            accepted.append(row)
    peak_rate = max(after.peak_rate, _rate(accepted))
    values = {g.key: g.value for g in growths}
    snapshot = msgspec.structs.replace(after, series=values, waiting=waiting, peak_rate=peak_rate)
    return served._replace(snapshot=snapshot, rows=accepted, refused=refused)


def _rate(rows: Sequence[ServedRow]) -> int:
    """Return the tokens per second of rows of one time."""
    length_ms = max((row.t1_ms - row.t0_ms for row in rows), default=0)
    return sum(r.served.prompt_tokens + r.served.completion_tokens for r in rows) * 1000 // max(length_ms, 1000)


def _rows(
    waiting: dict[str, list[tuple[int, int]]], growths: Sequence[SeriesGrowth], t_ms: int
) -> tuple[list[ServedRow], dict[str, list[tuple[int, int]]], int]:
    """Return rows by model and tenant, the cached tokens that go on to wait, and the number of those dropped."""
    sums: dict[tuple[str, str], dict[str, int]] = {}
    since: dict[tuple[str, str], int] = {}
    for g in growths:
        group = (g.series.model, g.series.tenant)
        columns = sums.setdefault(group, {})
        columns[g.series.column] = columns.get(g.series.column, 0) + g.grown
        if g.grown:
            since[group] = min(since.get(group, g.since_ms), g.since_ms)
    if len(sums) > MAX_GROUPS:
        raise BadInput("page", len(sums), f"a page of at most {MAX_GROUPS:,} pairs of model and tenant can be read")
    rows: list[ServedRow] = []
    left = {name: queue for name, queue in waiting.items() if queue and t_ms - queue[0][0] < AHEAD_MS}
    dropped = 0
    for (model, tenant), columns in sorted(sums.items()):
        delta, name = ServedTotals(**columns), f"{model}\n{tenant}"
        share: CachedShare = cached_share(waiting.get(name, ()), delta.cached_tokens, delta.prompt_tokens, t_ms)
        dropped += share.dropped_tokens
        left.pop(name, None)
        if share.waiting:
            left[name] = list(share.waiting)
        delta = delta._replace(cached_tokens=share.cached_tokens)
        rows += rows_of(model, tenant, since.get((model, tenant), t_ms), t_ms, delta)
    return rows, left, dropped


def _step_back(names: Sequence[str]) -> ItemRefusal:
    text = f"{names[0]} and {len(names) - 1} others" if names[1:] else names[0]
    return ItemRefusal(f"{text} went back without a restart: counted from the new value", "went_back")


def _restart(process: str, start_ms: int) -> str:
    return f"restarted at {time_text(start_ms)}{f' ({process})' if process else ''}"


def _doubt(process: str, start_ms: int) -> str:
    name = f" ({process})" if process else ""
    return (
        f"another process{name} answers, which started at {time_text(start_ms)}, before the last reading: "
        "counted from now on. Do the clocks differ?"
    )


def _refusal(row: ServedRow, limit: int) -> ItemRefusal:
    s = row.served
    tokens = f"{s.prompt_tokens:,} prompt and {s.completion_tokens:,} completion tokens of {s.requests:,} requests"
    text = (
        f"model {row.model}: {tokens} in {max(row.t1_ms - row.t0_ms, 1000) / 1000:g} s are more than this server can "
        f"produce ({limit:,} tokens per second): raise `max_tokens_per_s`, or set `gpu` and `gpus`, if they are right"
    )
    return ItemRefusal(text, "above_limit")
