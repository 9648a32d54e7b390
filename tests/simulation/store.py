"""The simulated warehouse: tables behind a network that fails as networks do. `sink` is its client.

The seed decides the fate of a request. It may be refused; done in part, then refused; done, and reported as failed;
reported as failed, and done later, perhaps under another owner of the partition; slow; or away for long. A client that
dies does not take its request with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from contracts.errors import BadQuery, Fenced, Unavailable
from tests.simulation.loop import Process, World
from tests.simulation.tables import Row, Tables, rows_of
from warehouse.sink.fence import Fence

Answered = Callable[[bool, Any], None]

READS = (
    "load_checkpoint", "max_epoch", "stored_keys", "facts_many", "claim_others", "claimed_above", "subjects", "rows_in",
    "fence_running",
)  # fmt: skip


@dataclass(frozen=True)
class Fates:
    """Probabilities of each fate of a request, and the delays of slow ones."""

    before: float = 0.0
    """Refused before any effect."""
    during: float = 0.0
    """Part of the rows was stored, then it failed."""
    after: float = 0.0
    """Stored, and reported as failed."""
    ghost: float = 0.0
    """Reported as failed by a timeout, and stored later."""
    ghost_ms: float = 3_000.0
    """Largest delay; half of them are stored only after the simulation ends."""
    slow: float = 0.0
    slow_ms: float = 2_000.0
    quick_ms: float = 5.0


class Store:
    """The server."""

    def __init__(self, world: World, rng: Random, fates: Fates, tables: Tables | None = None) -> None:
        self.tables = tables or Tables()
        self.fates = fates
        self.met: Counter[str] = Counter()
        """What requests met, by kind."""
        self.on_request: Callable[[Process, str], float] = lambda client, name: 0.0
        """Told of each request; says how much longer (ms) the server takes over it."""
        self.world = self._world = world
        self._rng = rng
        self._running: dict[int, Fence | None] = {}
        self._killed: set[int] = set()
        self.on_kill: dict[int, Callable[[], None]] = {}
        self._count = 0
        self._away_until_ms = 0.0
        self._ghosts: list[Callable[[], None]] = []

    def go_away(self, for_ms: float) -> None:
        """Refuse every request for this long."""
        self._away_until_ms = max(self._away_until_ms, self._world.now_ms + for_ms)

    def heal(self) -> None:
        """Let everything succeed at once from now on."""
        self._away_until_ms, self.fates = 0.0, Fates()

    def settle(self) -> None:
        """Do the requests that timed out and are not done yet."""
        ghosts, self._ghosts = self._ghosts, []
        for ghost in ghosts:
            ghost()

    # -- statements ----------------------------------------------------------------------------------------------------

    def some(self, rows: list[Row]) -> list[Row]:
        """The rows left by an insert that failed on its way: any part of them."""
        shuffled = self._rng.sample(rows, len(rows))
        return shuffled[: self._rng.randrange(len(rows) + 1)]

    def begin(self, fence: Fence | None) -> int:
        self._count += 1
        self._running[self._count] = fence
        return self._count

    def end(self, number: int) -> bool:
        """True if it was killed meanwhile."""
        del self._running[number], self.on_kill[number]
        return number in self._killed

    def is_running(self, number: int) -> bool:
        return number in self._running

    def running(self) -> list[tuple[int, Fence]]:
        return [(number, fence) for number, fence in self._running.items() if fence is not None]

    def kill(self, numbers: Sequence[int]) -> None:
        """End statements soon, with part of their rows stored, as KILL QUERY ... ASYNC does."""
        for number in numbers:
            if number in self._running and number not in self._killed:
                self._killed.add(number)
                self.met["killed at the server"] += 1
                self.world.later(self._rng.uniform(0.0, 50.0), self.on_kill[number])

    # -- requests ------------------------------------------------------------------------------------------------------

    def submit(self, client: Process, name: str, args: tuple[Any, ...], answered: Answered) -> None:
        """The interface of `loop.Server`."""
        rng, fates = self._rng, self.fates
        caller = _Client(self._world, client, name, answered)
        longer_ms = self.on_request(client, name)
        if name == "sleep":
            return caller.answer(args[0] * 1000, True, None)
        lag_ms, slow_ms = rng.uniform(0.0, fates.quick_ms), 0.0
        if self._world.now_ms < self._away_until_ms:
            return self._refuse(caller, lag_ms, "away")
        if fates.slow and rng.random() < fates.slow:
            self.met["slow"] += 1
            lag_ms += rng.uniform(0.0, fates.slow_ms) * (slow_to_arrive := rng.random() < 0.5)
            slow_ms = rng.uniform(0.0, fates.slow_ms) * (not slow_to_arrive)
        draw = rng.random()
        if draw < fates.before:
            return self._refuse(caller, lag_ms, "refused before")
        statement = self._statement(client, name, args)
        statement.takes_ms = longer_ms + slow_ms + rng.uniform(0.0, fates.quick_ms)
        if name.split()[0] in READS:
            return self._world.later(lag_ms, lambda: statement.run(caller.finish))
        return self._write(caller, statement, lag_ms, draw - fates.before)

    def _write(self, caller: _Client, statement: Statement, lag_ms: float, draw: float) -> None:
        """A request that changes something; `draw` decides its fate."""
        world, rng, fates = self._world, self._rng, self.fates
        if draw < fates.during:
            statement.in_part = True
            return self._refuse_after(caller, statement, lag_ms, "failed during")
        draw -= fates.during
        if draw < fates.after:
            return self._refuse_after(caller, statement, lag_ms, "failed after")
        draw -= fates.after
        if draw < fates.ghost:
            if rng.random() < 0.5:
                self._ghosts.append(lambda: statement.run(_ignore_answer))
            else:
                world.later(lag_ms + rng.uniform(0.0, fates.ghost_ms), lambda: statement.run(_ignore_answer))
            return self._refuse(caller, lag_ms + fates.quick_ms, "timed out, done later")
        return world.later(lag_ms, lambda: statement.run(caller.finish))

    def _refuse(self, caller: _Client, delay_ms: float, kind: str) -> None:
        self.met[kind] += 1
        caller.answer(delay_ms, False, _error(self._rng, kind))

    def _refuse_after(self, caller: _Client, statement: Statement, lag_ms: float, kind: str) -> None:
        """Do it, then report a failure."""
        self._world.later(lag_ms, lambda: statement.run(lambda ok, value: self._refuse(caller, 0.0, kind)))

    def _statement(self, client: Process, name: str, args: tuple[Any, ...]) -> Statement:
        kind = name.split()[0]
        if kind == "write":
            return Insert(self, client.name, args[0], rows_of(args[0], args[1]), args[2])
        if kind == "refresh_hours":
            return Refresh(self, client.name, args)
        return Read(self, client.name, kind, args)


@dataclass
class _Client:
    """The sender of a request, and the name of it."""

    world: World
    process: Process
    name: str
    answered: Answered

    def answer(self, delay_ms: float, ok: bool, value: Any) -> None:
        if not ok:
            self.world.note(self.process.name, "  store: {}: {!r}", self.name, value)
        self.world.later(delay_ms, lambda: self.process.call_soon(self.answered, ok, value))

    def finish(self, ok: bool, value: Any) -> None:
        self.answer(1.0, ok, value)


# -- statements of the server ------------------------------------------------------------------------------------------


@dataclass
class Statement:
    """A statement that the server executes, with a duration."""

    store: Store
    process_name: str

    def run(self, respond: Answered) -> None:
        raise NotImplementedError

    def _soon(self, step: Callable[[], None]) -> None:
        self.store.world.later(self.takes_ms, step)

    in_part = False
    takes_ms = 0.0


@dataclass
class Insert(Statement):
    """Rows into a table, perhaps behind a fence.

    The claims are read when it starts, the rows are there when it ends, and between the two it is listed as running
    (warehouse/sink/fence.py).
    """

    name: str
    rows: list[Row]
    fence: Fence | None

    def run(self, respond: Answered) -> None:
        store, fence = self.store, self.fence
        if fence is not None and store.tables.top_claim(fence.log_id, fence.log_partitions) != fence.epoch:
            store.world.note(self.process_name, "  fenced off: {} rows of {}", len(self.rows), self.name)
            store.met["fenced"] += 1
            return respond(False, Fenced(fence.log_id, fence.log_partitions, fence.epoch))
        number = store.begin(fence)

        def end() -> None:
            if not store.is_running(number):
                return  # Killed before.
            killed = store.end(number)
            rows = store.some(self.rows) if self.in_part or killed else self.rows
            store.world.note(self.process_name, "  stored {} of {} rows of {}", len(rows), len(self.rows), self.name)
            store.tables.write(self.name, rows)
            respond(not killed, Unavailable("simulated: killed", "Wait.") if killed else None)

        store.on_kill[number] = end
        return self._soon(end)


@dataclass
class Refresh(Statement):
    """INSERT SELECT of hours: the rows read may be old when they are written."""

    args: tuple[Any, ...]

    def run(self, respond: Answered) -> None:
        tables = self.store.tables
        hours = tables.hours_of(*self.args)

        def end() -> None:
            self.store.world.note(self.process_name, "  stored {} keys of hours", len(hours))
            if not self.in_part:
                tables.put_hours(hours)
            respond(True, None)

        self._soon(end)


@dataclass
class Read(Statement):
    """A query; or a small write that takes effect at once."""

    kind: str
    args: tuple[Any, ...]

    def run(self, respond: Answered) -> None:
        if self.kind == "fence_running":
            return respond(True, self.store.running())
        if self.kind == "kill":
            return respond(True, self.store.kill(*self.args))
        return respond(True, getattr(self.store.tables, self.kind)(*self.args))


def _ignore_answer(ok: bool, value: Any) -> None:
    """The answer to a request whose client has gone."""


def _error(rng: Random, kind: str) -> Exception:
    draw = rng.random()
    if draw < 0.7:
        return Unavailable(f"the simulated warehouse: {kind}", "Wait.")
    return OSError(f"simulated: {kind}") if draw < 0.9 else BadQuery("insert", kind, "simulated")
